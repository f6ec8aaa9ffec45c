// What Java makes of certificates (CertPathValidator, PKIX, with a PKIXRevocationChecker). Its arguments: `crl` or
// `ocsp`, the time, the root, the issuing authority and both lists, and then the leaves. It says one line of each.

import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CRL;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.PKIXRevocationChecker.Option;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.time.Instant;
import java.util.Date;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

public class Verifier {
    public static void main(String[] args) throws Exception {
        for (int i = 6; i < args.length; i++) System.out.println(verdict(args, args[i]));
    }

    static String verdict(String[] args, String leaf) throws Exception {
        var validator = CertPathValidator.getInstance("PKIX");
        var checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        var parameters = new PKIXParameters(Set.of(new TrustAnchor(certificate(args[2]), null)));
        parameters.setDate(Date.from(Instant.parse(args[1])));
        if (args[0].equals("crl")) {
            checker.setOptions(EnumSet.of(Option.PREFER_CRLS, Option.NO_FALLBACK));
            var lists = new CollectionCertStoreParameters(List.of(list(args[4]), list(args[5])));
            parameters.addCertStore(CertStore.getInstance("Collection", lists));
        } else {
            // The responder is where the certificate says. The root has none.
            checker.setOptions(EnumSet.of(Option.NO_FALLBACK, Option.ONLY_END_ENTITY));
        }
        parameters.addCertPathChecker(checker);
        var path = factory().generateCertPath(List.of(certificate(leaf), certificate(args[3])));
        try {
            validator.validate(path, parameters);
            return "good";
        } catch (CertPathValidatorException e) {
            if (e.getCause() instanceof CertificateRevokedException revoked)
                return "revoked, Reason: " + revoked.getRevocationReason();
            return e.getReason() + " at " + e.getIndex() + ": " + e.getMessage();
        }
    }

    static CertificateFactory factory() throws Exception {
        return CertificateFactory.getInstance("X.509");
    }

    static X509Certificate certificate(String file) throws Exception {
        try (InputStream in = Files.newInputStream(Path.of(file))) {
            return (X509Certificate) factory().generateCertificate(in);
        }
    }

    static CRL list(String file) throws Exception {
        try (InputStream in = Files.newInputStream(Path.of(file))) {
            return factory().generateCRL(in);
        }
    }
}
