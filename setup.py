"""Where the packages lie. Everything else about the distribution stands in pyproject.toml.

`cli/` and `export/` stand at the top of the repository and are installed as `rdi_tf.cli` and `rdi_tf.export`, so that
nothing called `cli` or `export` lands in anyone's site-packages.
"""

from setuptools import find_packages, setup

TOP_LEVEL = {"rdi_tf.cli": "cli", "rdi_tf.export": "export"}

packages = find_packages(include=["rdi_tf", "rdi_tf.*"])
for package, folder in TOP_LEVEL.items():
    packages += [package, *(f"{package}.{name}" for name in find_packages(folder))]

setup(packages=packages, package_dir={"rdi_tf": "rdi_tf", **TOP_LEVEL})
