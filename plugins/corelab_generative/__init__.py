"""What generative models of images share: likelihoods, labels, pictures, measures of quality."""
