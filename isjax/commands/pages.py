"""Which page of the docs helps with an error: one table, by the field or the command that the error is about."""

SITE = "docs/"
"""Where the pages are: in the repository, until they have an address."""
PAGES = {
    "env": "environments",
    "env_params": "environments",
    "network": "extending/network",
    "memory": "extending/network",
    "heads": "extending/network",
    "vary": "guides/sweeps",
    "draw": "guides/sweeps",
    "halvings": "guides/sweeps",
    "devices": "guides/accelerators",
    "devices_per_learner": "guides/accelerators",
    "learners_per_group": "guides/accelerators",
    "distributed": "guides/clusters",
    "coordinator": "guides/clusters",
    "processes": "guides/clusters",
    "process": "guides/clusters",
    "host_timeout": "guides/clusters",
    "column": "logs",
    "estimators": "logs",
    "format": "logs",
    "probabilities": "logs",
    "isjax evaluate": "logs",
}


def with_page(said: str, subject: str) -> str:
    """What an error says, and where to read on if there is such a page.

    Args:
      said: a sentence.
      subject: the field or the command that it is about.

    >>> with_page("--env must be a registered environment, but it is 'Cart'.", "env")
    "--env must be a registered environment, but it is 'Cart'. See docs/environments.md."
    >>> with_page("--seed must be at least 0, but it is -1.", "seed")
    '--seed must be at least 0, but it is -1.'
    """
    if subject not in PAGES:
        return said
    return f"{said}{'' if said.endswith(('.', '?')) else '.'} See {SITE}{PAGES[subject]}.md."
