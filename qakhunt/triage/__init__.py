"""The meaning of a result: findings, assessment, timeline, process tree, suppressions."""
