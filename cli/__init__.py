"""The command line `rdi-tf`: one file per command, each parses, calls the library and prints."""
