"""Whether verdicts on logs are right: to be trusted, and better than what ran."""
