"""A real OpenSSH server on loopback: its own keys and configuration, files by SFTP."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Sshd"]

CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile none
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
LogLevel INFO
Subsystem sftp internal-sftp
"""


class Sshd:
    """One server whose files, keys and log lie in *directory*; who runs it may log in.

    `known_hosts`: names its key. `key`: the user's private key.
    """

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.key = directory / "user_key"
        self.known_hosts = directory / "known_hosts"
        self.files = directory / "files"

    def __enter__(self) -> Self:
        self.files.mkdir()
        for name in ("host_key", "user_key"):
            self._keygen(name)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it keeps its children
        self.start()
        return self

    def _keygen(self, name: str) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._directory / name)]
        subprocess.run(command, check=True)

    def start(self) -> None:
        """Start it, on the port that it had before, if any; return once it listens."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.port = listener.getsockname()[1]
        config = self._directory / "sshd_config"
        config.write_text(CONFIG.format(directory=self._directory, port=self.port))
        host_key = (self._directory / "host_key.pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {' '.join(host_key[:2])}\n")
        self._process = subprocess.Popen(
            [self._binary, "-D", "-e", "-f", config], stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line.decode())
            if b"Server listening on" in line:
                return
        raise AssertionError(f"sshd did not start: {''.join(said)}")

    def stop(self) -> None:
        """End it; the connections that it has are ended, too."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def url(self, name: str) -> str:
        """The address of *name* below its files."""
        return f"sftp://{getpass.getuser()}@127.0.0.1:{self.port}{self.files}/{name}"

    @property
    def storage(self) -> dict[str, str]:
        """What a client needs: its key, and that of the server."""
        return {"key_filename": str(self.key), "known_hosts": str(self.known_hosts)}
