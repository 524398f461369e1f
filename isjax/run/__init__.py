"""The host side of a run: the loop of compiled chunks, its folder, its page. The library below never prints."""
