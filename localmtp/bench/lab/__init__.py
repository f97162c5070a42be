"""Programs that measure localmtp itself, run as modules from a checkout.

`python -m localmtp.bench.lab.overhead`, for example. What users measure with is `localmtp bench`.
"""
