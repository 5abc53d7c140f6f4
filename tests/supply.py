"""Checks what the project is built from against .deny.toml: sources, licences, minimum versions, duplicates.

Reads `cargo metadata` for each target of the file and needs nothing else. What `cargo deny` can do beyond this is to
look into the licence texts and into the database of advisories.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict

TOKEN = re.compile(r"\(|\)|[A-Za-z0-9.+-]+")


class Licences:
    """Whether an SPDX expression can be met with what is allowed (SPDX 2.3, annex D; AND binds closer than OR)."""

    def __init__(self, expression, allowed):
        # Before SPDX, cargo took a slash for OR.
        self.tokens = TOKEN.findall(expression.replace("/", " OR "))
        self.allowed = allowed

    def are_met(self):
        met = self.any_of()
        if self.tokens:
            raise ValueError(f"what is `{self.tokens[0]}`?")
        return met

    def next_is(self, word):
        if self.tokens and self.tokens[0] == word:
            self.tokens.pop(0)
            return True
        return False

    def any_of(self):
        met = self.all_of()
        while self.next_is("OR"):
            met = self.all_of() or met
        return met

    def all_of(self):
        met = self.one()
        while self.next_is("AND"):
            met = self.one() and met
        return met

    def one(self):
        if not self.tokens:
            raise ValueError("it ends too early")
        if self.next_is("("):
            met = self.any_of()
            if not self.next_is(")"):
                raise ValueError("a parenthesis is not closed")
            return met
        name = self.tokens.pop(0)
        if self.next_is("WITH"):
            exception = self.tokens.pop(0)
            # An exception only ever allows more.
            return name in self.allowed or f"{name} WITH {exception}" in self.allowed
        return name in self.allowed


def number(version):
    """For comparison; a pre-release counts as what it precedes, and is none of ours."""
    return tuple(int(part) for part in re.split(r"[-+]", version)[0].split("."))


def is_of(version, start):
    """Whether 0.9.1 is of 0.9."""
    return version == start or version.startswith(f"{start}.")


def banned(package, rule):
    name, _, bound = rule["crate"].partition("@")
    if package["name"] != name:
        return False
    if not bound:
        return True
    if not bound.startswith("<") or bound.startswith("<="):
        raise ValueError(f"{rule['crate']}: this check only understands `name` and `name@<version`")
    return number(package["version"]) < number(bound[1:])


def packages(targets):
    """All that is built for any of the targets."""
    found = {}
    for target in targets:
        command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
        metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        used = {node["id"] for node in metadata["resolve"]["nodes"]}
        own = set(metadata["workspace_members"])
        found |= {p["id"]: p for p in metadata["packages"] if p["id"] in used - own}
    return sorted(found.values(), key=lambda p: (p["name"], number(p["version"])))


def faults(policy, found):
    registries = {f"registry+{url}" for url in policy["sources"]["allow-registry"]}
    allowed = set(policy["licenses"]["allow"])
    versions = defaultdict(list)
    for package in found:
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].append(package["version"])
        if package["source"] not in registries:
            yield f"{name} comes from {package['source']}; expected one of {', '.join(sorted(registries))}"
        if not package["license"]:
            yield f"{name} names no licence"
        elif not Licences(package["license"], allowed).are_met():
            yield f"{name} is under {package['license']}, which [licenses] allow does not meet"
        for rule in policy["bans"]["deny"]:
            if banned(package, rule):
                yield f"{name} is ruled out by `{rule['crate']}`"
    skipped = [rule["crate"].split("@") for rule in policy["bans"]["skip"]]
    for name, several in versions.items():
        starts = [start for crate, start in skipped if crate == name]
        left = [version for version in several if not any(is_of(version, start) for start in starts)]
        if len(left) > 1:
            yield f"{name} is there in {', '.join(several)}; use one, or add the older to [bans] skip"
    for crate, start in skipped:
        if not any(is_of(version, start) for version in versions[crate]):
            yield f"[bans] skip names {crate}@{start}, which is not there any more"


def check_itself():
    """A check that cannot fail is none."""
    allowed = {"MIT", "ISC"}
    for expression, met in [
        ("MIT", True),
        ("GPL-3.0", False),
        ("MIT/Apache-2.0", True),
        ("MIT AND GPL-3.0", False),
        ("(GPL-3.0 OR MIT) AND ISC", True),
        ("GPL-3.0 OR MIT AND BSL-1.0", False),
        ("MIT WITH LLVM-exception", True),
    ]:
        assert Licences(expression, allowed).are_met() is met, expression
    old = {"name": "h2", "version": "0.4.9", "source": "git+https://example.com", "license": "GPL-3.0"}
    policy = {
        "sources": {"allow-registry": []},
        "licenses": {"allow": ["MIT"]},
        "bans": {"deny": [{"crate": "h2@<0.4.18"}], "skip": [{"crate": "gone@1"}]},
    }
    found = list(faults(policy, [old, old | {"version": "0.5.0"}]))
    assert len(found) == 7, found


def main():
    check_itself()
    with open(".deny.toml", "rb") as file:
        policy = tomllib.load(file)
    found = packages(policy["graph"]["targets"])
    assert len(found) > 100, "cargo metadata names next to no package"
    said = list(faults(policy, found))
    for fault in said:
        print(fault, file=sys.stderr)
    if said:
        sys.exit(1)
    print(f"{len(found)} packages: sources, licences, minimum versions and duplicates are as .deny.toml has it")


if __name__ == "__main__":
    main()
