#!/usr/bin/env python3
"""What the binary is made of, from cargo's own words: a CycloneDX 1.5 list of components with their licences, and
the texts of those licences.

    sbom.py TARGET SBOM.json THIRD-PARTY-LICENSES

Fails where a component names no licence. The same sources give the same bytes; the time is SOURCE_DATE_EPOCH's.
"""

import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import uuid

PACKAGE = "millstream-cli"
# Packed into the binary as sources, for `millstream new`.
PACKED = ["millstream-plugin", "millstream-plugin-macro"]
LICENCE_FILES = re.compile(r"^(licen[cs]e|copying|notice|unlicense|copyright)([.-].*)?$", re.IGNORECASE)


def cargo(*args):
    command = [os.environ.get("CARGO", "cargo"), *args]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def tree(target, edges):
    """Names and versions of what the package needs over some edges, with the features it is built with."""
    text = cargo("tree", "--locked", "-p", PACKAGE, "--target", target, "-e", edges, "--prefix", "none", "-f", "{p}")
    pairs = (line.split(" ")[:2] for line in text.splitlines() if line)
    return {(name, version.removeprefix("v")) for name, version in pairs}


def checksums():
    """The registry's sha256 of each crate, from the lock file."""
    found = {}
    for entry in pathlib.Path("Cargo.lock").read_text().split("[[package]]"):
        fields = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', entry, re.MULTILINE))
        if "checksum" in fields:
            found[fields["name"], fields["version"]] = fields["checksum"]
    return found


def licence(package):
    """An SPDX expression; `MIT/Apache-2.0` is what some crates call `MIT OR Apache-2.0`."""
    if not package["license"]:
        sys.exit(f"sbom: {package['name']} {package['version']} names no licence")
    return re.sub(r"\s*/\s*", " OR ", package["license"])


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, in_binary, sums):
    name, version = package["name"], package["version"]
    entry = {
        "type": "library",
        "bom-ref": reference(package),
        "name": name,
        "version": version,
        # Macros and build scripts leave code of their making, not themselves.
        "scope": "required" if in_binary else "excluded",
        "licenses": [{"expression": licence(package)}],
        "purl": reference(package),
    }
    if package["description"]:
        entry["description"] = " ".join(package["description"].split())
    if package["authors"]:
        entry["author"] = ", ".join(package["authors"])
    if (name, version) in sums:
        entry["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def standard_library():
    release = re.search(r"^release: (.*)$", subprocess.check_output(["rustc", "-vV"], text=True), re.MULTILINE)[1]
    return {
        "type": "library",
        "bom-ref": f"pkg:generic/rust-std@{release}",
        "name": "rust-std",
        "version": release,
        "description": "The Rust standard library.",
        "scope": "required",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "purl": f"pkg:generic/rust-std@{release}",
        "externalReferences": [{"type": "vcs", "url": "https://github.com/rust-lang/rust"}],
    }


def licence_texts(packages):
    """Every text once, under the names of those it belongs to."""
    holders = {}
    for package in packages:
        folder = pathlib.Path(package["manifest_path"]).parent
        label = f"{package['name']} {package['version']} ({licence(package)})"
        files = sorted(file for file in folder.iterdir() if file.is_file() and LICENCE_FILES.match(file.name))
        texts = [file.read_text(errors="replace").replace("\r\n", "\n").strip() for file in files]
        for text in texts or ["(The crate comes without a text of its licence; its name stands above.)"]:
            holders.setdefault(text, []).append(label)
    sections = sorted((labels, text) for text, labels in holders.items())
    rule = "=" * 100
    return "".join(f"{rule}\n" + "\n".join(labels) + f"\n{rule}\n\n{text}\n\n" for labels, text in sections)


def main():
    target, sbom, texts = sys.argv[1:]
    metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    in_binary = tree(target, "normal,no-proc-macro")
    wanted = in_binary | tree(target, "normal,build")
    packed = {(p["name"], p["version"]) for p in metadata["packages"] if p["name"] in PACKED and p["source"] is None}
    key = lambda package: (package["name"], package["version"])
    packages = sorted((p for p in metadata["packages"] if key(p) in wanted | packed), key=key)
    main_package = next(p for p in packages if p["name"] == PACKAGE)
    sums = checksums()
    by_id = {p["id"]: p for p in packages}
    edges = []
    for node in sorted(metadata["resolve"]["nodes"], key=lambda node: node["id"]):
        if node["id"] in by_id:
            built = (d["pkg"] for d in node["deps"] if any(kind["kind"] != "dev" for kind in d["dep_kinds"]))
            needs = sorted({reference(by_id[d]) for d in built if d in by_id})
            edges.append({"ref": reference(by_id[node["id"]]), "dependsOn": needs})
    std = standard_library()
    lock = hashlib.sha256(pathlib.Path("Cargo.lock").read_bytes()).hexdigest()
    version = main_package["version"]
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'millstream {version} {target} {lock}')}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": reference(main_package),
                "name": "millstream",
                "version": version,
                "licenses": [{"expression": licence(main_package)}],
                "properties": [{"name": "target", "value": target}],
            },
        },
        "components": [component(p, key(p) in in_binary | packed, sums) for p in packages if p is not main_package] + [std],
        "dependencies": edges,
    }
    pathlib.Path(sbom).write_text(json.dumps(document, indent=1) + "\n")
    others = [p for p in packages if p["source"] is not None and key(p) in in_binary]
    pathlib.Path(texts).write_text(licence_texts(others))
    print(f"sbom: {len(document['components'])} components, {len(others)} crates of others in the binary")


main()
