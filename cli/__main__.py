"""`python -m rdi_tf.cli` is `rdi-tf`."""

from rdi_tf.cli.main import main

main(prog_name="rdi-tf")
