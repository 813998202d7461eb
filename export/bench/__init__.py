"""What an exported file costs on this machine: time, memory, and where both go."""
