"""The demo of churn: from order lines to a model that is served."""
