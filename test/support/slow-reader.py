"""Runs a command whose output goes to a small pipe that is already full, and that is read late and slowly.

slow-reader.py stdout|stderr COMMAND...: prints the output; exits with the command's exit code.
"""
import fcntl
import os
import subprocess
import sys
import time

F_SETPIPE_SZ = 1031
filler = 4000

reader, writer = os.pipe()
fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
os.write(writer, b"x" * filler)
child = subprocess.Popen(
    sys.argv[2:], **{sys.argv[1]: writer, "stdout" if sys.argv[1] == "stderr" else "stderr": subprocess.DEVNULL}
)
os.close(writer)
time.sleep(1.5)
os.read(reader, filler)
while chunk := os.read(reader, 2048):
    sys.stdout.buffer.write(chunk)
    time.sleep(0.0005)
sys.exit(child.wait())
