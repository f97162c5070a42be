"""Tests of any device that libllama finds: `pytest -m device`."""
