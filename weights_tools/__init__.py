"""What happens to checkpoints: fetched, looked into, converted, compared, named, trained, planted.

The command is `weights-tools`; `cli` has one module a command, `training` and `checkpoints` what they do.
"""
