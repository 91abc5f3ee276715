"""Schemathesis against the server itself: requests made from schemas/openapi.json and schemas/schema.graphql.

    cases.py PROGRAM DIRECTORY [CASES] [SEED]

PROGRAM is `daybook`; it is started and stopped here, with its data below DIRECTORY. CASES is how many requests there are at
least, of both kinds together. Exits with 0 when no answer is a fault of the server, none breaks its contract, and the
server's log has no error.
"""

import hashlib
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.request
import uuid

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ADMIN = uuid.UUID(int=0xA)
ADMIN_TOKEN = "token-of-the-platform-admin-for-the-judges"
TENANT_TOKEN = "token-of-the-tenant-admin-for-the-judges"
# Checks of its own that would count what is right here as wrong, with the reason.
LEFT_OUT = [
    # Nothing says in a schema which text is a document, or a position that was told.
    "positive_data_acceptance",
]


def named(space: uuid.UUID, name: bytes) -> uuid.UUID:
    """The id that a command makes: UUID version 5."""
    return uuid.UUID(bytes=hashlib.sha1(space.bytes + name).digest()[:16], version=5)


REGISTER = uuid.UUID(int=0xB)
TENANT = named(ADMIN, REGISTER.bytes)
PLATFORM = uuid.UUID("daeb0000-0000-8000-8000-000000000001")


class Server:
    def __init__(self, program: str, directory: pathlib.Path):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        tokens = [(ADMIN_TOKEN, ADMIN, None, "platformAdmin"), (TENANT_TOKEN, uuid.UUID(int=0xC), TENANT, "tenantAdmin")]
        config = "".join(
            f'[[tokens]]\ntoken = "{token}"\nactor = "{actor}"\nroles = ["{role}"]\n'
            + (f'tenant = "{tenant}"\n' if tenant else "")
            for token, actor, tenant, role in tokens
        )
        (directory / "daybook.toml").write_text(config)
        self.log = directory / "log"
        self.out = directory / "out"
        arguments = ["serve", "--data-dir", directory / "data", "--config", directory / "daybook.toml"]
        # How often somebody may ask is judged elsewhere.
        arguments += ["--listen", "127.0.0.1:0", "--rate-per-address", "0", "--rate-per-account", "0", "--rate-per-tenant", "0"]
        env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        with self.log.open("w") as log, self.out.open("w") as out:
            self.process = subprocess.Popen(
                [program, *arguments], stdout=out, stderr=log, env=env | {"DAYBOOK_LOG": "warn", "DAYBOOK_LOG_FORMAT": "json"}
            )
        end = time.monotonic() + 60
        while True:
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the server does not start:\n{self.log.read_text()}")
            told = re.search(r"listens on (http://\S+)/graphql", self.out.read_text())
            if told and self.is_ready(told[1]):
                self.url = told[1]
                return
            time.sleep(0.05)

    @staticmethod
    def is_ready(url: str) -> bool:
        try:
            return urllib.request.urlopen(f"{url}/health/ready").status == 200
        except OSError:
            return False

    def ask(self, query: str, token: str = ADMIN_TOKEN, **variables) -> dict:
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/graphql", body, headers)) as answer:
            answer = json.load(answer)
        assert "errors" not in answer, answer
        (payload,) = answer["data"].values()
        assert not payload.get("userErrors"), payload
        return payload

    def stop(self) -> list[str]:
        """The lines of its log that are errors."""
        self.process.terminate()
        code = self.process.wait(60)
        lines = [line for line in self.log.read_text().splitlines() if '"level":"ERROR"' in line or "panicked" in line]
        return lines if code == 0 else [*lines, f"the server ended with {code}"]


def settle(server: Server) -> dict:
    """Something of everything, so that requests have something to find: ids and positions."""
    told = "position userErrors { message }"
    register = f"mutation($c: UUID!) {{ registerTenant(input: {{name: \"Judged\", clientMutationId: $c}}) {{ tenant {{ id }} {told} }} }}"
    tenant = server.ask(register, c=str(REGISTER))
    assert tenant["tenant"]["id"] == str(TENANT), tenant
    ids, positions = [str(TENANT), str(ADMIN)], [tenant["position"]]

    def made(document: str, noun: str, token: str = TENANT_TOKEN, **variables) -> str:
        answer = server.ask(document, token, **variables)
        positions.append(answer["position"])
        ids.append(answer[noun]["id"])
        return answer[noun]["id"]

    account = made(
        f'mutation {{ registerAccount(input: {{name: "Ada", email: "ada@example.com"}}) {{ account {{ id }} {told} }} }}',
        "account",
        ADMIN_TOKEN,
    )
    member = made(
        f"mutation($a: UUID!) {{ addMember(input: {{account: $a, roles: [MEMBER]}}) {{ member {{ id }} {told} }} }}",
        "member",
        a=account,
    )
    module = made(
        f'mutation {{ registerModule(input: {{manifest: {{key: "meters", name: "Meters", version: "1.0.0", integration: {{kind: EMBEDDED}}, roles: [{{key: "user", name: "User"}}]}}}}) {{ module {{ id }} {told} }} }}',
        "module",
        ADMIN_TOKEN,
    )
    made(
        f'mutation {{ registerServiceAccount(input: {{name: "Reader", roles: [MEMBER]}}) {{ serviceAccount {{ id }} {told} }} }}',
        "serviceAccount",
    )
    made(
        f"""mutation {{ registerDevice(input: {{serial: "S-1", kind: METER, direction: IMPORT, name: "Main",
            site: {{name: "12 Mill Lane", timeZone: "Europe/Berlin"}}, resolutionS: 900, maxPowerW: "10000"}}) {{ device {{ id }} {told} }} }}""",
        "device",
    )
    return {"ids": [*ids, member, module], "positions": positions}


def judge(what: str, arguments: list, directory: pathlib.Path, known: dict, token: str) -> tuple[bool, dict]:
    """One run of schemathesis; whether it is content, and how often it was answered what."""
    (directory / "known.json").write_text(json.dumps(known))
    counts = directory / f"{what}.counts"
    env = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    env |= {"JUDGE_KNOWN": str(directory / "known.json"), "JUDGE_COUNTS": str(counts), "JUDGE_RUN": what, "JUDGE_TOKEN": token}
    program = pathlib.Path(sys.executable).parent / "schemathesis"
    done = subprocess.run([program, "run", *map(str, arguments)], env=env, cwd=directory, check=False)
    return done.returncode == 0, json.loads(counts.read_text())


def main() -> int:
    if len(sys.argv) < 3:
        print("usage: cases.py PROGRAM DIRECTORY [CASES] [SEED]", file=sys.stderr)
        return 2
    program, directory = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]).resolve()
    cases, seed = int(sys.argv[3]) if len(sys.argv) > 3 else 5_000, int(sys.argv[4]) if len(sys.argv) > 4 else 20261201
    server = Server(program, directory)
    errors = ["the server was not stopped"]
    runs = []
    try:
        known = settle(server)
        common = ["--generation-database", "none", "--no-color", "--warnings", "off", "--continue-on-failure"]
        common += ["--suppress-health-check", "all", "--checks", "all", "--exclude-checks", ",".join(LEFT_OUT)]

        def run(what: str, each: int, seed: int, *more: str) -> None:
            """So many requests for each operation."""
            schema, token, tenant = {
                "graphql, tenant admin": ("schema.graphql", TENANT_TOKEN, TENANT),
                "graphql, platform admin": ("schema.graphql", ADMIN_TOKEN, PLATFORM),
                "openapi, tenant admin": ("openapi.json", TENANT_TOKEN, TENANT),
            }[what]
            url = server.url + ("/graphql" if schema == "schema.graphql" else "")
            arguments = [ROOT / "schemas" / schema, "--url", url]
            arguments += ["--max-examples", each, "--seed", seed, *common, *more]
            since = time.monotonic()
            content, counts = judge(f"{what} {seed}", arguments, directory, known | {"tenant": str(tenant)}, token)
            runs.append((content, counts))
            took, sent = time.monotonic() - since, sum(counts.values())
            print(f"schemathesis, {what}: {sent} requests in {took:.0f} s{'' if content else ', NOT CONTENT'}")
            for told, times in sorted(counts.items()):
                print(f"    {times:6} {told}")

        # What the schema allows; the other runs also send what it forbids.
        run("graphql, tenant admin", math.ceil(cases / 150), seed, "--mode", "positive")
        run("openapi, tenant admin", math.ceil(cases / 50), seed)
        # Some operations have fewer requests than asked for; what is missing is made up for here.
        while (missing := cases - sum(sum(counts.values()) for _, counts in runs)) > 0 and len(runs) < 6:
            seed += 1
            run("graphql, platform admin", math.ceil(missing / 70), seed)
    finally:
        errors = server.stop()
    total = sum(sum(counts.values()) for _, counts in runs)
    for line in errors:
        print(f"log of the server: {line}")
    print(f"schemathesis: {total} requests, {cases} wanted")
    return 0 if total >= cases and not errors and all(content for content, _ in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
