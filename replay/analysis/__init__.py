"""Questions whose answer is more than one query: where a replay stood, and why an account was hit."""
