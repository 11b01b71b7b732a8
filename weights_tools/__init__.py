"""What happens to checkpoint files: trained here, so far. The command is `weights-tools`."""
