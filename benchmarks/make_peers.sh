#!/bin/sh
# Make the environments of the peers that `python benchmarks/all.py` measures beside
# MolPool, one folder each: sh benchmarks/make_peers.sh FOLDER [PEER ...]
# Then: python benchmarks/all.py --peers FOLDER
#
# They are apart because their requirements exclude each other. All that use torch and
# ASE get the versions MolPool is tested with, so that a ratio compares programs and not
# releases. PYTHON names the interpreter (default python3).
set -eu

folder=${1:?"name the folder of the environments, as in: sh benchmarks/make_peers.sh peers"}
shift
[ $# -gt 0 ] || set -- schnetpack pyg so3krates-torch jax tblite

for peer in "$@"; do
    alone=
    case $peer in
    schnetpack)
        # its own limit sympy<=1.12 shuts out every torch of now, so without its wishes
        alone="schnetpack==2.1.1"
        packages="torch==2.13.0 ase==3.29.0 numpy==2.4.6 h5py matscipy pyyaml hydra-core
            hydra-colorlog pytorch-lightning torchmetrics torch-ema fasteners dirsync rich
            tensorboard tensorboardX tqdm protobuf"
        ;;
    pyg) packages="torch-geometric==2.8.1 torch==2.13.0 numpy==2.4.6 scipy==1.17.1" ;;
    so3krates-torch) packages="so3krates-torch==0.2.1 torch==2.13.0 ase==3.29.0" ;;
    jax) packages="jax==0.5.3 jaxlib==0.5.3 numpy==2.4.6 safetensors==0.8.0" ;;
    tblite) packages="tblite==0.8.0 ase==3.29.0" ;;
    *)
        echo "there is no peer $peer; choose among schnetpack, pyg, so3krates-torch, jax, tblite" >&2
        exit 2
        ;;
    esac
    echo "$peer:" $packages $alone
    "${PYTHON:-python3}" -m venv "$folder/$peer"
    # shellcheck disable=SC2086 # several packages
    "$folder/$peer/bin/python" -m pip install --quiet $packages
    # shellcheck disable=SC2086
    [ -z "$alone" ] || "$folder/$peer/bin/python" -m pip install --quiet --no-deps $alone
done
