"""Judgement, pure: admit a spec, plan the writes, diagnose pods, summarize status."""
