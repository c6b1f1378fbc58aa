"""New rows are drawn around the mean of all source rows, with a small share of their full covariance.

transformers' ``resize_token_embeddings(mean_resizing=True)``, its default: ``modeling_utils.py``,
``_init_added_embeddings_weights_with_mean`` (5.23.0), after Hewitt 2021, "Initializing New Word Embeddings". If the
covariance is not positive definite, transformers uses the plain mean; here the noise is then in the span of the rows.
"""

from nemo_adapt.resize.plan import Materials, Noise, RowPlan, strategy

COVARIANCE_SHARE = 1e-9
"""transformers' ``epsilon``: the covariance is multiplied by it."""


@strategy("multivariate_normal")
def multivariate_normal(materials: Materials) -> RowPlan:
    """Draw from N(mean, 1e-9 * covariance): rows so close to the mean that they differ by little more than rounding."""
    noise = Noise("covariance", COVARIANCE_SHARE**0.5)
    return RowPlan(materials.empty_combination(), mean_share=1.0, noise=noise)
