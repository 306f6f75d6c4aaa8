# SPDX-License-Identifier: BSD-2-Clause
"""A certificate authority for one lab, with openssl."""
import os

from .proc import run

EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    def __init__(self, directory):
        self.dir = directory
        os.makedirs(directory, exist_ok=True)
        self.ca = f"{directory}/ca.crt"
        run("openssl", "req", "-x509", *EC, "-keyout", f"{directory}/ca.key", "-out", self.ca,
            "-subj", "/CN=derptrace lab", "-days", "2")

    def certificate(self, hostname, names=None):
        """HOSTNAME.crt and .key in this directory, for these names (by default the host name)."""
        base = f"{self.dir}/{hostname}"
        if os.path.exists(f"{base}.crt"):
            return
        with open(f"{base}.ext", "w") as f:
            f.write("subjectAltName=" + ",".join(f"DNS:{n}" for n in names or [hostname]) + "\n")
        run("openssl", "req", *EC, "-keyout", f"{base}.key", "-out", f"{base}.csr", "-subj", f"/CN={hostname}")
        run("openssl", "x509", "-req", "-in", f"{base}.csr", "-CA", self.ca, "-CAkey", f"{self.dir}/ca.key",
            "-CAcreateserial", "-days", "2", "-out", f"{base}.crt", "-extfile", f"{base}.ext")
