"""The bill of materials of a release, SPDX 2.3 as JSON."""
import json
import re
import time

import archive
import debian


def identifier(name):
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)


def package(name, version, source, purpose):
    return {"SPDXID": identifier(f"{purpose}-{name}"), "name": name, "versionInfo": version, "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False, "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
            "supplier": "Organization: Debian", "sourceInfo": f"Debian source package {source}",
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                              "referenceLocator": f"pkg:deb/debian/{name}@{version}"}]}


def document(tag, commit, binaries, packages_file):
    """Libraries that `binaries` load come from dpkg's records, tools of the build from tools/packages.txt."""
    own = {"SPDXID": "SPDXRef-pixii", "name": "pixii", "versionInfo": tag, "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
           "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION", "sourceInfo": f"commit {commit}"}
    packages, relationships = [own], [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-pixii"}]
    owners = set()
    for path in debian.libraries(*binaries).values():
        found = debian.owner(path)
        if found:
            owners.add(found)
    for facts in sorted(owners):
        packages.append(package(*facts, "library"))
        relationships.append({"spdxElementId": "SPDXRef-pixii", "relationshipType": "DYNAMIC_LINK", "relatedSpdxElement": packages[-1]["SPDXID"]})
    for line in packages_file.read_text().splitlines():
        facts = debian.installed(line.strip()) if line.strip() and not line.startswith("#") else None
        if facts:
            packages.append(package(*facts, "build"))
            relationships.append({"spdxElementId": packages[-1]["SPDXID"], "relationshipType": "BUILD_TOOL_OF", "relatedSpdxElement": "SPDXRef-pixii"})
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(archive.epoch()))
    value = {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"pixii-{tag}",
             "documentNamespace": f"https://pixii.invalid/spdx/{tag}/{commit}", "packages": packages, "relationships": relationships,
             "creationInfo": {"created": when, "creators": ["Tool: tools/release"]}}
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
