#!/usr/bin/env python3
"""Verifies an export of the audit trail of hgs-ca, with nothing of its code: Python 3.8, standard library.

    hgs-ca audit export > trail.jsonl
    python3 verify-audit.py trail.jsonl [--key audit.key] [--checkpoints checkpoints.jsonl]

Each line is canonical JSON (RFC 8785). What is hashed is the line without hash and mac:

    hash = SHA-256("hgsca-audit-v1\\n" + record)        previousHash is in the record; 64 zeros in the first
    mac  = HMAC-SHA-256(audit key, hash)                 the key: 32 octets in base64 or hex

Events from before there was a chain have neither; they are hashed as if they had been linked, and the
first event after them (audit.chainBegun) is. Exit codes: 0 as it was written, 1 damaged, 2 wrong usage.
"""
import argparse, base64, binascii, hashlib, hmac, json, re, sys

def canonical(value):  # strings, nulls and whole numbers only, so json does what RFC 8785 says
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

def hash_of(record):
    kept = {name: value for name, value in record.items() if name not in ("hash", "mac")}
    return hashlib.sha256(b"hgsca-audit-v1\n" + canonical(kept)).hexdigest()

def read_key(path):
    text = open(path).read().strip()
    return bytes.fromhex(text) if re.fullmatch("[0-9a-fA-F]{64}", text) else base64.b64decode(text)

def mac_of(key, octets):
    return hmac.new(key, octets, hashlib.sha256).hexdigest()

def damage(events, key, checkpoints):
    """The first: (sequence, kind), or None."""
    last, previous, sealed, hashes = 0, "0" * 64, False, {}
    for event in events:
        sequence = event["sequence"]
        if sequence != last + 1:
            return (last + 1, "gap") if sequence > last else (sequence, "duplicate")
        if event["hash"] == "" and not sealed:
            if event["mac"] or event["previousHash"]:
                return sequence, "unsealed"
            previous = hash_of({**event, "previousHash": previous})
        else:
            begins = event["type"] == "audit.chainBegun" and json.loads(event["details"]).get("earlierEvents")
            if not sealed and sequence != 1 and begins != sequence - 1:
                return last, "unsealed"
            if event["hash"] == "":
                return sequence, "unsealed"
            if hash_of(event) != event["hash"]:
                return sequence, "edit"  # or put elsewhere
            if key and mac_of(key, binascii.unhexlify(event["hash"])) != event["mac"]:
                return sequence, "mac"
            if event["previousHash"] != previous:
                return (sequence, "fork") if sealed or sequence == 1 else (1, "edit")
            sealed, previous = True, event["hash"]
        last, hashes[sequence] = sequence, event["hash"]
    if last and not sealed:
        return 1, "unsealed"
    for checkpoint in checkpoints:
        if checkpoint["sequence"] > last:
            return last + 1, "truncation"
        if hashes[checkpoint["sequence"]] != checkpoint["hash"]:
            return checkpoint["sequence"], "fork"
    return None

def read_checkpoints(path, key):
    found = []
    for line in open(path, encoding="utf-8") if path else []:
        try:
            checkpoint = json.loads(line)
        except ValueError:
            continue  # torn by a crash
        mac = checkpoint.pop("mac")
        if key and mac_of(key, b"hgsca-checkpoint-v1\n" + canonical(checkpoint)) != mac:
            sys.exit("checkpoint  a line is not one of the audit key")  # exit code 1
        found = [checkpoint] if checkpoint["abandons"] is not None else found + [checkpoint]
    return sorted(found, key=lambda one: one["sequence"])

if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Verifies an export of the audit trail of hgs-ca.")
    options.add_argument("export")
    options.add_argument("--key", help="the file of HGSCA_AUDIT_KEY_FILE; without it, no MAC is looked at")
    options.add_argument("--checkpoints", help="the file of HGSCA_AUDIT_CHECKPOINT_FILE")
    given = options.parse_args()
    key = read_key(given.key) if given.key else None
    with open(given.export, encoding="utf-8") as lines:
        found = damage(map(json.loads, lines), key, read_checkpoints(given.checkpoints, key))
    if found:
        sys.exit("event %d  %s" % found)  # exit code 1
    print("the audit trail is the one that was written")
