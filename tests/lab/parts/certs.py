# SPDX-License-Identifier: BSD-2-Clause
"""A certificate authority for one lab, and the keys that nodes go by, with openssl."""
import os
import subprocess

from .proc import run

EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

PKCS8_X25519 = bytes.fromhex("302e020100300506032b656e04220420")


def public_key(private):
    """The Curve25519 public key of 32 private bytes."""
    done = subprocess.run(["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"],
                          input=PKCS8_X25519 + private, capture_output=True, check=True)
    return done.stdout[-32:]


class Authority:
    def __init__(self, directory):
        self.dir = directory
        os.makedirs(directory, exist_ok=True)
        self.ca = f"{directory}/ca.crt"
        run("openssl", "req", "-x509", *EC, "-keyout", f"{directory}/ca.key", "-out", self.ca,
            "-subj", "/CN=derptrace lab", "-days", "2")

    def certificate(self, hostname):
        """HOSTNAME.crt and .key in this directory, for that name alone."""
        base = f"{self.dir}/{hostname}"
        if os.path.exists(f"{base}.crt"):
            return
        with open(f"{base}.ext", "w") as f:
            f.write(f"subjectAltName=DNS:{hostname}\n")
        run("openssl", "req", *EC, "-keyout", f"{base}.key", "-out", f"{base}.csr", "-subj", f"/CN={hostname}")
        run("openssl", "x509", "-req", "-in", f"{base}.csr", "-CA", self.ca, "-CAkey", f"{self.dir}/ca.key",
            "-CAcreateserial", "-days", "2", "-out", f"{base}.crt", "-extfile", f"{base}.ext")
