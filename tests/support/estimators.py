"""Small scikit-learn estimators and pipelines of every kind that is worth a contract, fitted on made-up data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import (
    calibration,
    cluster,
    compose,
    covariance,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    kernel_approximation,
    linear_model,
    mixture,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
)

Array = npt.NDArray[Any]
_RNG = np.random.default_rng(5)
NUMBERS = _RNG.normal(size=(80, 4)).astype(np.float32)
COUNTS = _RNG.poisson(2.0, size=(80, 4)).astype(np.float32)
CODES = _RNG.integers(0, 3, size=(80, 4)).astype(np.float32)
_SCORE = NUMBERS[:, 0] + NUMBERS[:, 1] * NUMBERS[:, 2] / 2
TWO = (_SCORE > 0).astype(np.int64)
THREE = TWO + (_SCORE > 1)
OF_COUNTS = (COUNTS[:, 0] > COUNTS[:, 1]).astype(np.int64) + (COUNTS[:, 2] > 3)
OF_CODES = (CODES[:, 0] == CODES[:, 1]).astype(np.int64)
NAMES = np.array(["no", "perhaps", "yes"])
MISSING = np.where(_RNG.random(NUMBERS.shape) < 0.1, np.nan, NUMBERS).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """An estimator with what it learns from.

    Attributes:
        make: Makes the estimator, not fitted.
        x: The samples.
        y: Labels or targets; None: it learns without.
    """

    make: Callable[[], Any]
    x: Array
    y: Array | None

    @cached_property
    def fitted(self) -> Any:
        """The estimator, fitted."""
        return self.make().fit(self.x) if self.y is None else self.make().fit(self.x, self.y)


def _logistic() -> Any:
    return linear_model.LogisticRegression()


def _chain(*steps: Any) -> Any:
    return pipeline.make_pipeline(*steps)


def _trio(kind: Any, **options: Any) -> Any:
    return kind(
        [("a", _logistic()), ("b", naive_bayes.GaussianNB()), ("c", linear_model.LogisticRegression(C=0.1))], **options
    )


CASES: dict[str, Case] = {
    # linear models
    "LinearRegression": Case(linear_model.LinearRegression, NUMBERS, _SCORE),
    "Ridge": Case(linear_model.Ridge, NUMBERS, _SCORE),
    "Lasso": Case(lambda: linear_model.Lasso(0.01), NUMBERS, _SCORE),
    "ElasticNet": Case(lambda: linear_model.ElasticNet(0.01), NUMBERS, _SCORE),
    "BayesianRidge": Case(linear_model.BayesianRidge, NUMBERS, _SCORE),
    "ARDRegression": Case(linear_model.ARDRegression, NUMBERS, _SCORE),
    "HuberRegressor": Case(linear_model.HuberRegressor, NUMBERS, _SCORE),
    "Lars": Case(linear_model.Lars, NUMBERS, _SCORE),
    "OrthogonalMatchingPursuit": Case(linear_model.OrthogonalMatchingPursuit, NUMBERS, _SCORE),
    "PoissonRegressor": Case(linear_model.PoissonRegressor, NUMBERS, np.exp(_SCORE / 3)),
    "GammaRegressor": Case(linear_model.GammaRegressor, NUMBERS, np.exp(_SCORE / 3)),
    "TweedieRegressor": Case(lambda: linear_model.TweedieRegressor(power=1.5), NUMBERS, np.exp(_SCORE / 3)),
    "QuantileRegressor": Case(linear_model.QuantileRegressor, NUMBERS, _SCORE),
    "SGDRegressor": Case(lambda: linear_model.SGDRegressor(random_state=0), NUMBERS, _SCORE),
    "TheilSenRegressor": Case(lambda: linear_model.TheilSenRegressor(random_state=0), NUMBERS, _SCORE),
    "RANSACRegressor": Case(lambda: linear_model.RANSACRegressor(random_state=0), NUMBERS, _SCORE),
    "LogisticRegression": Case(_logistic, NUMBERS, THREE),
    "LogisticRegression, two classes": Case(_logistic, NUMBERS, TWO),
    "LogisticRegression, named classes": Case(_logistic, NUMBERS, NAMES[THREE]),
    "LogisticRegression, two named classes": Case(_logistic, NUMBERS, NAMES[TWO]),
    "RidgeClassifier": Case(linear_model.RidgeClassifier, NUMBERS, THREE),
    "Perceptron": Case(linear_model.Perceptron, NUMBERS, THREE),
    "SGDClassifier": Case(lambda: linear_model.SGDClassifier(random_state=0), NUMBERS, THREE),
    "SGDClassifier, log_loss": Case(
        lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0), NUMBERS, THREE
    ),
    "SGDClassifier, modified_huber": Case(
        lambda: linear_model.SGDClassifier(loss="modified_huber", random_state=0), NUMBERS, THREE
    ),
    "LinearSVC": Case(svm.LinearSVC, NUMBERS, THREE),
    "LinearSVC, two classes": Case(svm.LinearSVC, NUMBERS, TWO),
    "LinearSVR": Case(lambda: svm.LinearSVR(random_state=0), NUMBERS, _SCORE),
    "MultiTaskLasso": Case(lambda: linear_model.MultiTaskLasso(0.01), NUMBERS, np.c_[_SCORE, -_SCORE]),
    # neural networks
    "MLPClassifier": Case(lambda: neural_network.MLPClassifier((5,), max_iter=30, random_state=0), NUMBERS, THREE),
    "MLPClassifier, named classes": Case(
        lambda: neural_network.MLPClassifier((5,), max_iter=30, random_state=0), NUMBERS, NAMES[THREE]
    ),
    "MLPClassifier, two classes": Case(
        lambda: neural_network.MLPClassifier((5,), max_iter=30, random_state=0), NUMBERS, TWO
    ),
    "MLPClassifier, multilabel": Case(
        lambda: neural_network.MLPClassifier((5,), max_iter=30, random_state=0), NUMBERS, np.c_[TWO, OF_CODES]
    ),
    "MLPRegressor": Case(
        lambda: neural_network.MLPRegressor(hidden_layer_sizes=(5,), max_iter=30, random_state=0), NUMBERS, _SCORE
    ),
    # support vectors
    "SVC, linear": Case(lambda: svm.SVC(kernel="linear"), NUMBERS, TWO),
    "SVC, poly": Case(lambda: svm.SVC(kernel="poly"), NUMBERS, TWO),
    "SVC, rbf": Case(svm.SVC, NUMBERS, TWO),
    "SVC, rbf, three classes": Case(svm.SVC, NUMBERS, THREE),
    "SVC, sigmoid": Case(lambda: svm.SVC(kernel="sigmoid"), NUMBERS, TWO),
    "SVC, probability": Case(lambda: svm.SVC(probability=True, random_state=0), NUMBERS, TWO),
    "SVC, probability, three classes": Case(lambda: svm.SVC(probability=True, random_state=0), NUMBERS, THREE),
    "NuSVC": Case(lambda: svm.NuSVC(nu=0.2), NUMBERS, THREE),
    "SVR, rbf": Case(svm.SVR, NUMBERS, _SCORE),
    "SVR, linear": Case(lambda: svm.SVR(kernel="linear"), NUMBERS, _SCORE),
    "SVR, poly": Case(lambda: svm.SVR(kernel="poly"), NUMBERS, _SCORE),
    "NuSVR": Case(svm.NuSVR, NUMBERS, _SCORE),
    "OneClassSVM": Case(lambda: svm.OneClassSVM(nu=0.2), NUMBERS, None),
    "SGDOneClassSVM": Case(lambda: linear_model.SGDOneClassSVM(random_state=0), NUMBERS, None),
    # naive Bayes, discriminants, mixtures
    "GaussianNB": Case(naive_bayes.GaussianNB, NUMBERS, THREE),
    "MultinomialNB": Case(naive_bayes.MultinomialNB, COUNTS, OF_COUNTS),
    "ComplementNB": Case(naive_bayes.ComplementNB, COUNTS, OF_COUNTS),
    "BernoulliNB": Case(lambda: naive_bayes.BernoulliNB(binarize=0.0), NUMBERS, THREE),
    "CategoricalNB": Case(naive_bayes.CategoricalNB, CODES, OF_CODES),
    "LinearDiscriminantAnalysis": Case(discriminant_analysis.LinearDiscriminantAnalysis, NUMBERS, THREE),
    "QuadraticDiscriminantAnalysis": Case(discriminant_analysis.QuadraticDiscriminantAnalysis, NUMBERS, THREE),
    "GaussianMixture": Case(lambda: mixture.GaussianMixture(2, random_state=0), NUMBERS, None),
    "GaussianMixture, diag": Case(
        lambda: mixture.GaussianMixture(2, covariance_type="diag", random_state=0), NUMBERS, None
    ),
    "BayesianGaussianMixture": Case(
        lambda: mixture.BayesianGaussianMixture(n_components=2, random_state=0), NUMBERS, None
    ),
    # clusters and neighbours
    "KMeans": Case(lambda: cluster.KMeans(3, n_init=1, random_state=0), NUMBERS, None),
    "MiniBatchKMeans": Case(lambda: cluster.MiniBatchKMeans(3, n_init=1, random_state=0), NUMBERS, None),
    "NearestCentroid": Case(neighbors.NearestCentroid, NUMBERS, THREE),
    "KNeighborsClassifier": Case(lambda: neighbors.KNeighborsClassifier(3), NUMBERS[:30], THREE[:30]),
    "KNeighborsRegressor": Case(lambda: neighbors.KNeighborsRegressor(3), NUMBERS[:30], _SCORE[:30]),
    "RadiusNeighborsClassifier": Case(lambda: neighbors.RadiusNeighborsClassifier(3.0), NUMBERS[:30], THREE[:30]),
    "GaussianProcessRegressor": Case(
        lambda: gaussian_process.GaussianProcessRegressor(gaussian_process.kernels.RBF(1.0), optimizer=None, alpha=0.1),
        NUMBERS[:20],
        _SCORE[:20],
    ),
    "GaussianProcessClassifier": Case(
        lambda: gaussian_process.GaussianProcessClassifier(gaussian_process.kernels.RBF(1.0), optimizer=None),
        NUMBERS[:20],
        TWO[:20],
    ),
    # meta-estimators
    "OneVsRestClassifier": Case(lambda: multiclass.OneVsRestClassifier(_logistic()), NUMBERS, THREE),
    "OneVsRestClassifier, two classes": Case(lambda: multiclass.OneVsRestClassifier(_logistic()), NUMBERS, TWO),
    "OneVsOneClassifier": Case(lambda: multiclass.OneVsOneClassifier(_logistic()), NUMBERS, THREE),
    "OutputCodeClassifier": Case(lambda: multiclass.OutputCodeClassifier(_logistic(), random_state=0), NUMBERS, THREE),
    "VotingClassifier, hard": Case(lambda: _trio(ensemble.VotingClassifier), NUMBERS, THREE),
    "VotingClassifier, soft": Case(lambda: _trio(ensemble.VotingClassifier, voting="soft"), NUMBERS, THREE),
    "VotingRegressor": Case(
        lambda: ensemble.VotingRegressor([("a", linear_model.LinearRegression()), ("b", linear_model.Ridge())]),
        NUMBERS,
        _SCORE,
    ),
    "CalibratedClassifierCV, sigmoid": Case(
        lambda: calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2), NUMBERS, TWO
    ),
    "CalibratedClassifierCV, sigmoid, three classes": Case(
        lambda: calibration.CalibratedClassifierCV(_logistic(), cv=2), NUMBERS, THREE
    ),
    "CalibratedClassifierCV, isotonic": Case(
        lambda: calibration.CalibratedClassifierCV(_logistic(), method="isotonic", cv=2), NUMBERS, TWO
    ),
    "BaggingClassifier": Case(lambda: ensemble.BaggingClassifier(_logistic(), 3, random_state=0), NUMBERS, THREE),
    "BaggingClassifier, two classes": Case(
        lambda: ensemble.BaggingClassifier(_logistic(), 3, random_state=0), NUMBERS, TWO
    ),
    "BaggingRegressor": Case(
        lambda: ensemble.BaggingRegressor(linear_model.LinearRegression(), 3, random_state=0), NUMBERS, _SCORE
    ),
    "StackingClassifier": Case(lambda: _trio(ensemble.StackingClassifier), NUMBERS, THREE),
    "StackingRegressor": Case(
        lambda: ensemble.StackingRegressor(
            [("a", linear_model.LinearRegression()), ("b", svm.LinearSVR(random_state=0))]
        ),
        NUMBERS,
        _SCORE,
    ),
    "AdaBoostClassifier": Case(
        lambda: ensemble.AdaBoostClassifier(_logistic(), n_estimators=3, random_state=0), NUMBERS, THREE
    ),
    "AdaBoostClassifier, two classes": Case(
        lambda: ensemble.AdaBoostClassifier(_logistic(), n_estimators=3, random_state=0), NUMBERS, TWO
    ),
    "AdaBoostRegressor": Case(
        lambda: ensemble.AdaBoostRegressor(linear_model.LinearRegression(), n_estimators=3, random_state=0),
        NUMBERS,
        _SCORE,
    ),
    "MultiOutputRegressor": Case(
        lambda: multioutput.MultiOutputRegressor(linear_model.LinearRegression()), NUMBERS, np.c_[_SCORE, -_SCORE]
    ),
    "MultiOutputClassifier": Case(
        lambda: multioutput.MultiOutputClassifier(_logistic()), NUMBERS, np.c_[TWO, OF_CODES]
    ),
    "TransformedTargetRegressor": Case(
        lambda: compose.TransformedTargetRegressor(
            linear_model.LinearRegression(), transformer=preprocessing.StandardScaler()
        ),
        NUMBERS,
        _SCORE,
    ),
    "EllipticEnvelope": Case(lambda: covariance.EllipticEnvelope(random_state=0), NUMBERS, None),
    "LocalOutlierFactor": Case(lambda: neighbors.LocalOutlierFactor(n_neighbors=5, novelty=True), NUMBERS[:30], None),
    # preparation
    "StandardScaler": Case(lambda: _chain(preprocessing.StandardScaler(), _logistic()), NUMBERS, THREE),
    "MinMaxScaler": Case(lambda: _chain(preprocessing.MinMaxScaler(clip=True), _logistic()), NUMBERS, THREE),
    "MaxAbsScaler": Case(lambda: _chain(preprocessing.MaxAbsScaler(), _logistic()), NUMBERS, THREE),
    "RobustScaler": Case(lambda: _chain(preprocessing.RobustScaler(), _logistic()), NUMBERS, THREE),
    "Normalizer, l1": Case(lambda: _chain(preprocessing.Normalizer("l1"), _logistic()), NUMBERS, THREE),
    "Normalizer, l2": Case(lambda: _chain(preprocessing.Normalizer("l2"), _logistic()), NUMBERS, THREE),
    "Normalizer, max": Case(lambda: _chain(preprocessing.Normalizer("max"), _logistic()), COUNTS + 1, OF_COUNTS),
    "Binarizer": Case(lambda: _chain(preprocessing.Binarizer(threshold=0.2), _logistic()), NUMBERS, THREE),
    "KBinsDiscretizer, onehot": Case(
        lambda: _chain(
            preprocessing.KBinsDiscretizer(3, encode="onehot-dense", quantile_method="averaged_inverted_cdf"),
            _logistic(),
        ),
        NUMBERS,
        THREE,
    ),
    "KBinsDiscretizer, ordinal": Case(
        lambda: _chain(preprocessing.KBinsDiscretizer(3, encode="ordinal", strategy="uniform"), _logistic()),
        NUMBERS,
        THREE,
    ),
    "PolynomialFeatures": Case(lambda: _chain(preprocessing.PolynomialFeatures(2), _logistic()), NUMBERS, THREE),
    "SplineTransformer": Case(lambda: _chain(preprocessing.SplineTransformer(3), _logistic()), NUMBERS, THREE),
    "PowerTransformer, yeo-johnson": Case(
        lambda: _chain(preprocessing.PowerTransformer(), _logistic()), NUMBERS, THREE
    ),
    "PowerTransformer, box-cox": Case(
        lambda: _chain(preprocessing.PowerTransformer("box-cox"), _logistic()), COUNTS + 1, OF_COUNTS
    ),
    "QuantileTransformer": Case(
        lambda: _chain(preprocessing.QuantileTransformer(n_quantiles=10), _logistic()), NUMBERS, THREE
    ),
    "FunctionTransformer": Case(lambda: _chain(preprocessing.FunctionTransformer(), _logistic()), NUMBERS, THREE),
    "OneHotEncoder": Case(lambda: _chain(preprocessing.OneHotEncoder(), _logistic()), CODES, OF_CODES),
    "OneHotEncoder, ignore": Case(
        lambda: _chain(preprocessing.OneHotEncoder(handle_unknown="ignore"), _logistic()), CODES, OF_CODES
    ),
    "OrdinalEncoder": Case(lambda: _chain(preprocessing.OrdinalEncoder(), _logistic()), CODES * 2 + 5, OF_CODES),
    "SimpleImputer": Case(lambda: _chain(impute.SimpleImputer(), _logistic()), MISSING, THREE),
    "KNNImputer": Case(lambda: _chain(impute.KNNImputer(n_neighbors=2), _logistic()), MISSING[:30], THREE[:30]),
    "ColumnTransformer": Case(
        lambda: _chain(
            compose.ColumnTransformer(
                [("codes", preprocessing.OneHotEncoder(), [0, 2]), ("numbers", preprocessing.StandardScaler(), [1, 3])]
            ),
            _logistic(),
        ),
        np.c_[CODES[:, 0], NUMBERS[:, 1], CODES[:, 2], NUMBERS[:, 3]].astype(np.float32),
        OF_CODES,
    ),
    "FeatureUnion": Case(
        lambda: _chain(pipeline.make_union(preprocessing.StandardScaler(), preprocessing.MinMaxScaler()), _logistic()),
        NUMBERS,
        THREE,
    ),
    "VarianceThreshold": Case(lambda: _chain(feature_selection.VarianceThreshold(), _logistic()), NUMBERS, THREE),
    "SelectKBest": Case(lambda: _chain(feature_selection.SelectKBest(k=2), _logistic()), NUMBERS, THREE),
    "PCA": Case(lambda: _chain(decomposition.PCA(2), _logistic()), NUMBERS, THREE),
    "PCA, whiten": Case(lambda: _chain(decomposition.PCA(2, whiten=True), _logistic()), NUMBERS, THREE),
    "IncrementalPCA": Case(lambda: _chain(decomposition.IncrementalPCA(2), _logistic()), NUMBERS, THREE),
    "TruncatedSVD": Case(lambda: _chain(decomposition.TruncatedSVD(2, random_state=0), _logistic()), NUMBERS, THREE),
    "KernelPCA, rbf": Case(
        lambda: _chain(decomposition.KernelPCA(2, kernel="rbf", gamma=0.1), _logistic()), NUMBERS[:25], THREE[:25]
    ),
    "KernelPCA, poly": Case(
        lambda: _chain(decomposition.KernelPCA(2, kernel="poly", gamma=0.1), _logistic()), NUMBERS[:25], THREE[:25]
    ),
    "Nystroem": Case(
        lambda: _chain(kernel_approximation.Nystroem(n_components=8, random_state=0), _logistic()), NUMBERS, THREE
    ),
    "RBFSampler": Case(
        lambda: _chain(kernel_approximation.RBFSampler(n_components=8, random_state=0), _logistic()), NUMBERS, THREE
    ),
    "KMeans as features": Case(
        lambda: _chain(cluster.KMeans(3, n_init=1, random_state=0), _logistic()), NUMBERS, THREE
    ),
    "PLSRegression": Case(lambda: cross_decomposition.PLSRegression(2), NUMBERS, _SCORE),
}
