# packaged.py shows that a package may bring libraries: of the language, native ones, and programs.
import ctypes
import subprocess

from brought import library


def handler(event, context):
    native = ctypes.CDLL("/var/task/native/libz.so.1")
    native.zlibVersion.restype = ctypes.c_char_p
    with open("/proc/self/maps") as f:
        mapped = any("/var/task/native/libz.so.1" in line for line in f)
    program = subprocess.run(["/var/task/bin/tool", "from the package"], capture_output=True, text=True, check=True)
    return {"library": library.word(), "path": library.__file__, "zlib": native.zlibVersion().decode(), "mapped": mapped,
            "program": program.stdout.strip()}
