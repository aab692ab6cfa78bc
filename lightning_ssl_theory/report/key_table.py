"""Every logged key in words: pattern, title, unit and scale of the axis in a line, how to read it in those below."""

KEY_TABLE = """
train/loss | Loss | loss | linear
    Falls while the model learns; losses of different kinds have no common level.
train/alignment | Alignment part | loss | linear
    Pulls the views of one sample together; lower means the views agree more.
train/regularization | Regularization part | loss | linear
    Keeps different samples apart; lower means they are spread out more.
train/downstream | Downstream part | loss | linear
    Error of the best linear reader of the downstream target, over the labelled samples of a batch.
train/pretext | Pretext part | loss | linear
    Minus lambda times the error of the best linear reader of the pretext target; it falls as the target is forgotten.
probe/<layer>/logistic_top1 | Logistic probe | % | share
    Held-out images that logistic regression on the features names correctly, fitted with all labels.
probe/<layer>/logistic_top1_<k>_labels | Logistic probe, <k> labels a class | % | share
    The same, fitted with <k> labelled images of each class: the gain of learning without labels.
probe/<layer>/ridge_top1 | Ridge probe | % | share
    The same with ridge regression in closed form: cheaper, often somewhat lower than logistic.
probe/<layer>/ridge_top<k> | Ridge probe, top <k> | % | share
    Held-out images whose class is among the ridge probe's <k> highest scores.
probe/<layer>/knn<k>_t<tau>_top1 | <k> nearest neighbours, temperature <tau> | % | share
    Held-out images whose class gets the most votes of the <k> labelled images at the largest cosines, of weight
    exp(cosine / <tau>) each; nothing is fitted. Compare it with figures of the same k and temperature only.
probe/<layer>/knn<k>_top1 | <k> nearest neighbours | % | share
    The same where every neighbour has one vote.
covariance/weight_share | Weights in the look | % | share
    Trainable parameters that the look covers; the others are biases, or of layers that a warning names.
covariance/<layer>/trace | Trace | tr OP | log
    The total strength with which contrast between samples can move the layer; near zero it has nothing
    to learn from.
covariance/<layer>/trace_error95 | 95 % error of the trace | tr OP | log
    Half-width of the interval that covers 95 % of the draws of random probes, drawn as a band; 0 where none is
    needed. Half of it is also logged as `trace_stderr`, its name in 0.1.
covariance/<layer>/signal_ratio | Signal share | % | share
    Share of the variance that lies between samples and not between views of one; 100 % means that
    augmentation changes nothing.
covariance/<layer>/signal_ratio_error95 | 95 % error of the signal share | % | share
    The same for the signal share.
covariance/<layer>/growth_rate | Growth rate | 1 / time | log
    wᵀOP w / ‖w‖²: descent on the simple contrastive loss lets ln ‖w‖ grow at twice this rate.
covariance/<layer>/growth_rate_error95 | 95 % error of the growth rate | 1 / time | log
    The same for the growth rate; zero where it is exact, as in networks without biases and skips.
covariance/<layer>/frobenius_norm | Frobenius norm | ‖OP‖_F | log
    Strength of the operator's strongest directions; the closer to the trace, the fewer directions are driven.
covariance/<layer>/frobenius_norm_error95 | 95 % error of the Frobenius norm | ‖OP‖_F | log
    The same for the Frobenius norm; large with few probes.
covariance/<layer>/residual | Residual of the prediction | ‖grad − prediction‖ / ‖grad‖ | linear
    Part of the true gradient that the operator does not explain; 0 explains all of it, 1 nothing.
covariance/<layer>/cosine | Cosine of prediction and gradient | cosine | linear
    1 when the operator points exactly along the true gradient, 0 when it tells nothing about it.
covariance/<layer>/weight_cosine | Cosine of weight and leading directions | cosine | linear
    Length of the weight's part in the span of the leading eigenvectors, as a share; it rises as the layer
    turns to what drives it.
covariance/<layer>/effective_rank | Effective rank of the operator | directions | linear
    Number of weight directions that are driven; 1 means that a single direction takes all.
covariance/<layer>/eigenvalue_<k> | Spectrum | eigenvalue | log
    The largest eigenvalues; one that leaves the others behind is a direction the layer will take.
selectivity/<layer>/selective_share | Selective neurons | % | share
    Neurons that answer to some class more than shuffled labels explain (5 % level, corrected for
    neurons and classes).
selectivity/<layer>/mean | Mean selectivity | activation | linear
    Half the gap between a neuron's mean on its best class and off it, averaged over neurons.
selectivity/<layer>/max | Largest selectivity | activation | linear
    The same for the most selective neuron.
selectivity/<layer>/max_z | Largest z-score | standard deviations | linear
    The clearest neuron, in standard deviations of the same quantity under shuffled labels.
selectivity/<layer>/latent_correlation | Known latents | correlation | linear
    Correlation of a latent with the neuron that knows it best, mean over latents; 1 when every latent has its neuron.
selectivity/<layer>/latent_correlation_min | The least known latent | correlation | linear
    The same for the latent that the layer knows least.
selectivity/<layer>/normalized_correlation | Correlation with the latent | correlation | linear
    Correlation of a latent with the best neuron of its group, before its activation; mean over a level.
selectivity/<layer>/latent_selectivity | Selectivity for the latent | activation | linear
    Half the gap between the two values of a latent, for the best neuron of its group; mean over a level.
selectivity/<layer>/lucky_share | Lucky nodes that win | % | share
    Latents whose best neuron is the one that theory picks before training; chance is one in a group.
selectivity/<layer>/rank_one_share | Rank one (Theorem 6) | % | share
    Share of one direction in the covariance over roots of what a latent's group sees; theory says all.
selectivity/<layer>/rank_one_cosine | Direction (Theorem 6) | cosine | linear
    Cosine of that direction and a_μ, the children's selectivity times their polarity; theory says 1.
selectivity/<layer>/operator_trace | Trace of a latent's operator | tr OP | log
    How strongly contrast between the two roots drives the weights of a group; mean over a level.
selectivity/<layer>/operator_norm | Norm of a latent's operator | ‖OP‖_F | log
    The same for the strongest directions.
feature_norms/<layer>/sparse_norm | Sparse norm | squared norm | log
    ‖MMᵀw‖², the part of the weights inside the dictionary M: the signal.
feature_norms/<layer>/dense_norm | Dense norm | squared norm | log
    ‖(I − MMᵀ)w‖², the part outside the dictionary: the noise.
feature_norms/<layer>/sparse_share | Sparse share | % | share
    Sparse norm over the sum of both; it rises when the learner gives up the dense noise.
feature_norms/<layer>/leading_atom_share | Leading atom | % | share
    Share of a neuron's squared norm that its largest dictionary atom holds, averaged over neurons.
feature_norms/<layer>/singleton_share | Singletons | % | share
    Neurons whose largest atom holds more than half of them: one neuron, one feature.
feature_norms/<layer>/covered_share | Covered atoms | % | share
    Dictionary atoms that lead some neuron which is not small.
feature_norms/<layer>/active_share | Active neurons | % | share
    Neurons longer than a tenth of the median one; the others have been given up.
feature_norms/<layer>/active_singleton_share | Singletons among active neurons | % | share
    The same share of singletons, of active neurons only.
feature_norms/<layer>/weight_norm | Weight norm | norm | linear
    Mean length of a neuron's weights; with weight decay it settles.
feature_norms/<layer>/mean_norm | Feature norm | norm | linear
    Mean length of the layer's feature vector.
feature_norms/<layer>/firing_rate | Firing rate | % | share
    Samples on which a neuron is not zero, averaged over neurons; sparse codes fire seldom.
feature_norms/<layer>/hoyer | Hoyer sparsity | 0 dense – 1 sparse | linear
    0 when a neuron answers equally to all samples, 1 when it answers to a single one.
feature_norms/<layer>/dead_share | Dead neurons | % | share
    Neurons that are zero on every sample of the look.
collapse/<layer>/effective_rank | Effective rank | directions | linear
    Exponential of the entropy of the covariance's eigenvalue shares; 1.00 is full collapse.
collapse/<layer>/rankme | RankMe | directions | linear
    The same from singular values of the features without centring them.
collapse/<layer>/min_std | Smallest standard deviation | standard deviation | linear
    The feature that varies least over the samples; at zero it is constant.
collapse/<layer>/mean_std | Mean standard deviation | standard deviation | linear
    Average over the features of their standard deviation over the samples.
collapse/<layer>/dimension_alignment | Alignment of the dimensions | mean abs. correlation | linear
    Mean absolute correlation between pairs of dimensions; 1 when all of them tell the same.
collapse/<layer>/num_features | Dimensions of the layer | directions | linear
    How many there are, D: a rank is at most that.
collapse/<layer>/num_samples | Samples of the look | samples | linear
    How many samples the ranks are read from; a rank is at most that, and reads low where it is near.
orthogonality/<layer>/drift | Drift | ‖WᵀW − I‖₂ | log
    Spectral norm of WᵀW − I; stays at rounding (below 1e-5) while the constraint holds.
orthogonality/<layer>/flow_distance | Distance from the flow | relative Frobenius norm | linear
    How far the outputs at the reference points are from the reduced ODE's; falls with the learning rate and
    grows with what the ODE leaves out: mini-batches, nonlinearity, another constraint.
orthogonality/<layer>/trace_loss | Trace loss on the reference set | loss | linear
    Of the network, and of the ODE that knows only C and the weights at the start; the curves lie on each other
    while theory holds.
generalization/<layer>/bound | Error bound | % | share
    Largest error of the nearest-centre classifier that theory allows; 100 % says nothing.
generalization/<layer>/error | Error of the nearest centre | % | share
    Clean samples that the classifier by the nearest class centre names wrongly: what the bound is a bound of.
generalization/<layer>/vacuous | Bound without content | 0 or 1 | linear
    1 where the bound says nothing; `delta` and `epsilon` are then those that come nearest to a condition that holds.
generalization/<layer>/holds | Condition of the bound | 0 or 1 | linear
    Whether the divergence stays below the threshold.
generalization/<layer>/alignment | Alignment | squared distance | log
    Mean squared distance of two views of a sample, features of norm 1; lower is better.
generalization/<layer>/r_epsilon | Badly aligned samples | % | share
    Share of samples two of whose views are further apart than `epsilon`; few views underestimate it.
generalization/<layer>/r_epsilon_<k> | Badly aligned at epsilon <k> | % | share
    The same for each of the callback's `epsilons` in their order, by default 0.01, 0.03, 0.1, 0.3 and 1.
generalization/<layer>/r_epsilon_bound_<k> | Badly aligned at epsilon <k>, at most | % | share
    What alignment alone says of that share: A (A − 1) / (2 ε²) times it, for A views; 1 where that is nothing.
generalization/<layer>/epsilon | Epsilon of the bound | distance | log
    The distance of views that makes the bound smallest.
generalization/<layer>/divergence | Divergence | product of centres | linear
    Largest product of two class centres; must stay below the threshold, lower is better.
generalization/<layer>/threshold | Threshold of the divergence | product of centres | linear
    What the divergence must stay below; positive only where rho_max is below 0.268, below -1 beyond 0.764.
generalization/<layer>/delta_mu | Spread of the widest class | 1 − ‖μ‖² | linear
    1 minus the smallest squared norm of a class centre.
generalization/<layer>/rho_max | Largest distance from the centre | rho | log
    Made of bad alignment and missing concentration; beyond 0.764 the bound says nothing.
generalization/<layer>/rho_alignment | The part of alignment | rho | log
    The smallest rho_max over epsilon, had concentration been perfect.
generalization/<layer>/rho_concentration | The part of concentration | rho | log
    The smallest rho_max over delta, had alignment been perfect.
generalization/<layer>/delta | Delta of the bound | distance of inputs | linear
    The distance of augmented inputs that makes the bound smallest.
generalization/<layer>/sigma_lower | Concentration, at least | % | share
    Share of every class that comes within delta of one another in some view: a clique that was found.
generalization/<layer>/sigma_upper | Concentration, at most | % | share
    The same from above, by colours; equal to it where the share is known exactly. Few views underestimate both.
generalization/<layer>/sigma_standard_error | Standard error of concentration | % | share
    Of the lower bound as an estimate for other samples, from random halves of every class; few views come on top.
generalization/<layer>/lipschitz_observed | Largest ratio of distances seen | 1 / distance of inputs | log
    An estimate of the Lipschitz constant, from below: features of norm 1 over inputs, at nearest views within a class.
generalization/<layer>/lipschitz_product | Product of spectral norms | 1 / distance of inputs | log
    An estimate from above, for plain chains of layers only, over the smallest norm of a feature.
generalization/<layer>/divergence_bound_info_nce | Divergence by InfoNCE | product of centres | linear
    What InfoNCE's regularization with one negative allows; at 1 and above it says nothing, as with many classes.
generalization/<layer>/divergence_bound_cross_correlation | Divergence by correlation | product of centres | linear
    What ‖C − I‖² of the cross-correlation, neither centred nor standardized, allows.
generalization/<layer>/divergence_bound_spectral | Divergence by the spectral loss | product of centres | linear
    What the second term of the spectral contrastive loss allows.
generalization/<layer>/divergence_bound_vicreg | Divergence by VICReg | product of centres | linear
    What the covariance term of VICReg allows.
generalization/<layer>/standardized_divergence | Divergence of standardized features | product of centres | linear
    Largest product of two class centres after Barlow Twins' standardization.
generalization/<layer>/divergence_bound_barlow_twins | Divergence by Barlow Twins | product of centres | linear
    What Barlow Twins' own matrix allows of the divergence of standardized features.
overhead/<callback>/seconds | Time so far | seconds | linear
    Seconds the callback has spent since training began.
overhead/<callback>/share | Share of the run | % | share
    The same as a share of the time since training began.
"""
