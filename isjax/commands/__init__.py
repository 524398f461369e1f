"""The commands, one file each with its flags: `main` takes the arguments and returns the exit code.

Whatever is heavy is imported inside of functions, once the arguments are known to be good.
"""
