#!/usr/bin/env python3
"""Verifies an export of the audit trail of hgs-ca, with nothing of its code: Python 3.8 with its standard library,
and openssl for the signatures of checkpoints.

    hgs-ca audit export > trail.jsonl
    hgs-ca audit public-key > audit.pub          # once; to be kept by whoever audits
    python3 verify-audit.py trail.jsonl [--checkpoints checkpoints.jsonl --public-key audit.pub] [--key audit.key]

Each line is canonical JSON (RFC 8785). What is hashed is the line without hash and mac:

    hash = SHA-256("hgsca-audit-v1\\n" + record)        previousHash is in the record; 64 zeros in the first
    mac  = HMAC-SHA-256(audit key, hash)                 the key: 32 octets in base64 or hex

Without the key no MAC is looked at: the chain and the checkpoints need no secret. A checkpoint is a line
of canonical JSON with a signature (Ed25519, base64) over "hgsca-checkpoint-v2\\n" + the line without it.

Events from before there was a chain have neither; they are hashed as if they had been linked, and the
first event after them (audit.chainBegun) is. Exit codes: 0 as it was written, 1 damaged, 2 wrong usage.
"""
import argparse, base64, binascii, concurrent.futures, hashlib, hmac, json, os, re, subprocess, sys, tempfile

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

def is_signed(line, public_key, folder):
    signature = line.pop("signature", None)
    with tempfile.NamedTemporaryFile(dir=folder) as text, tempfile.NamedTemporaryFile(dir=folder) as signed:
        try:
            signed.write(base64.b64decode(signature, validate=True))
        except (TypeError, ValueError):
            return False
        text.write(b"hgsca-checkpoint-v2\n" + canonical(line))
        text.flush(), signed.flush()
        files = ["-inkey", public_key, "-in", text.name, "-sigfile", signed.name]
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-rawin", *files]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

def read_checkpoints(path, public_key):
    lines = []
    for text in open(path, encoding="utf-8") if path else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue  # torn by a crash
    if public_key:
        open(public_key).close()  # what cannot be read is no forgery
        with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            if not all(pool.map(lambda line: is_signed(line, public_key, folder), lines)):
                sys.exit("checkpoint  a line is not signed by that key")  # exit code 1
    found = []
    for line in lines:
        found = [line] if line["abandons"] is not None else found + [line]
    return sorted(found, key=lambda one: one["sequence"])

if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Verifies an export of the audit trail of hgs-ca.")
    options.add_argument("export")
    options.add_argument("--key", help="the file of HGSCA_AUDIT_KEY_FILE; without it, no MAC is looked at")
    options.add_argument("--checkpoints", help="the file of HGSCA_AUDIT_CHECKPOINT_FILE")
    options.add_argument("--public-key", help="what hgs-ca audit public-key has printed: verifies the checkpoints")
    given = options.parse_args()
    key = read_key(given.key) if given.key else None
    with open(given.export, encoding="utf-8") as lines:
        found = damage(map(json.loads, lines), key, read_checkpoints(given.checkpoints, given.public_key))
    if found:
        sys.exit("event %d  %s" % found)  # exit code 1
    print("the audit trail is the one that was written")
