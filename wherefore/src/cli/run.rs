//! `wherefore run` and `wherefore replay`: the pipeline with a screen.

