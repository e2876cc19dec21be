"""The paper: scores, running statistics, the confidence bound, and the callback that keeps them in a training."""
