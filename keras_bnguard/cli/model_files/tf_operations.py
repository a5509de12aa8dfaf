"""TensorFlow operations that compute and do no more: no file, no variable, no other code.

Keras 2 writes each TensorFlow function in a graph as a layer that names it.
"""

from __future__ import annotations

from typing import FrozenSet, Iterator

_GROUPS = {
    "": """abs acos acosh add add_n argmax argmin argsort asin asinh atan atan2 atanh batch_to_space
        boolean_mask broadcast_to cast clip_by_norm clip_by_value complex concat convert_to_tensor
        cos cosh cumsum divide dynamic_partition dynamic_stitch einsum ensure_shape equal exp
        expand_dims fill floor gather gather_nd greater greater_equal identity less less_equal
        linspace logical_and logical_not logical_or matmul maximum meshgrid minimum multiply
        negative norm not_equal one_hot ones ones_like pad pow range rank reduce_all reduce_any
        reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape
        reverse reverse_sequence roll round saturate_cast scalar_mul scatter_nd searchsorted
        sequence_mask shape sigmoid sign sin sinh size slice sort space_to_batch split sqrt square
        squeeze stack stop_gradient strided_slice subtract tan tanh tensor_scatter_nd_add
        tensor_scatter_nd_max tensor_scatter_nd_min tensor_scatter_nd_sub
        tensor_scatter_nd_update tensordot tile transpose truediv unravel_index unstack where zeros
        zeros_like angle batch_gather ceil conj count_nonzero cumprod depth_to_space digamma div
        div_no_nan erf erfc expm1 floor_div floordiv floormod imag is_finite is_inf is_nan lgamma
        log log1p log_sigmoid logical_xor matrix_band_part matrix_diag matrix_transpose mod real
        reciprocal rint rsqrt space_to_depth squared_difference to_double to_float to_int32
        to_int64 trace where_v2""",
    "__operators__": "add eq getitem ne ragged_getitem",
    "math": """abs accumulate_n acos acosh add add_n angle argmax argmin asin asinh atan atan2
        atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e betainc bincount ceil conj cos cosh
        count_nonzero cumprod cumsum cumulative_logsumexp digamma divide divide_no_nan equal erf
        erfc erfcinv erfinv exp expm1 floor floordiv floormod greater greater_equal igamma igammac
        imag in_top_k invert_permutation is_finite is_inf is_nan l2_normalize lbeta less less_equal
        lgamma log log1p log_sigmoid log_softmax logical_and logical_not logical_or logical_xor
        maximum minimum mod multiply multiply_no_nan ndtri negative nextafter not_equal polygamma
        polyval pow real reciprocal reciprocal_no_nan reduce_all reduce_any reduce_euclidean_norm
        reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_std reduce_sum
        reduce_variance rint round rsqrt scalar_mul segment_max segment_mean segment_min
        segment_prod segment_sum sigmoid sign sin sinh softmax softplus softsign sqrt square
        squared_difference subtract tan tanh top_k truediv unsorted_segment_max
        unsorted_segment_mean unsorted_segment_min unsorted_segment_prod unsorted_segment_sum xdivy
        xlog1py xlogy zero_fraction zeta""",
    "nn": """atrous_conv2d atrous_conv2d_transpose avg_pool avg_pool1d avg_pool2d avg_pool3d
        avg_pool_v2 batch_normalization bias_add conv1d conv1d_transpose conv2d conv2d_transpose
        conv3d conv3d_transpose conv_transpose convolution crelu depth_to_space depthwise_conv2d
        dilation2d dropout elu embedding_lookup erosion2d fused_batch_norm gelu in_top_k l2_loss
        l2_normalize leaky_relu local_response_normalization log_poisson_loss log_softmax lrn
        max_pool max_pool1d max_pool2d max_pool3d max_pool_v2 max_pool_with_argmax moments
        normalize_moments pool relu relu6 relu_layer selu separable_conv2d sigmoid
        sigmoid_cross_entropy_with_logits silu softmax softmax_cross_entropy_with_logits
        softmax_cross_entropy_with_logits_v2 softplus softsign space_to_batch space_to_depth
        sparse_softmax_cross_entropy_with_logits sufficient_statistics swish tanh top_k
        weighted_cross_entropy_with_logits weighted_moments xw_plus_b zero_fraction""",
    "linalg": """adjoint band_part cholesky cholesky_solve cross det diag diag_part eig eigh eigvals
        eigvalsh einsum expm eye global_norm inv l2_normalize logdet lstsq lu matmul matrix_rank
        matrix_transpose matvec norm normalize pinv qr set_diag slogdet solve sqrtm svd tensor_diag
        tensor_diag_part tensordot trace transpose triangular_solve""",
    "image": """adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation
        central_crop combined_non_max_suppression convert_image_dtype crop_and_resize
        crop_to_bounding_box extract_glimpse extract_image_patches extract_patches flip_left_right
        flip_up_down grayscale_to_rgb hsv_to_rgb image_gradients non_max_suppression
        pad_to_bounding_box per_image_standardization random_brightness random_contrast
        random_crop random_flip_left_right random_flip_up_down random_hue random_saturation resize
        resize_area resize_bicubic resize_bilinear resize_image_with_crop_or_pad
        resize_image_with_pad resize_images resize_nearest_neighbor resize_with_crop_or_pad
        resize_with_pad rgb_to_grayscale rgb_to_hsv rgb_to_yiq rgb_to_yuv rot90 sobel_edges
        total_variation transpose transpose_image yiq_to_rgb yuv_to_rgb""",
    "signal": """dct fft fft2d fft3d fftshift frame idct ifft ifft2d ifft3d ifftshift inverse_stft
        irfft irfft2d irfft3d overlap_and_add rfft rfft2d rfft3d stft""",
    "random": "normal shuffle truncated_normal uniform",
    "bitwise": "bitwise_and bitwise_or bitwise_xor invert left_shift right_shift",
    "strings": "as_string join length lower split strip substr to_number upper",
    "sparse": "to_dense",
    "keras.activations": """elu exponential gelu hard_sigmoid linear mish relu selu sigmoid softmax
        softplus softsign swish tanh""",
    "keras.backend": """abs all any argmax argmin batch_dot batch_flatten batch_normalization
        bias_add binary_crossentropy cast cast_to_floatx categorical_crossentropy clip concatenate
        conv1d conv2d conv2d_transpose conv3d cos cumprod cumsum depthwise_conv2d dot dropout elu
        equal exp expand_dims flatten gather greater greater_equal hard_sigmoid l2_normalize less
        less_equal log max maximum mean min minimum not_equal one_hot ones_like permute_dimensions
        pool2d pool3d pow prod relu repeat repeat_elements reshape resize_images resize_volumes
        reverse round separable_conv2d shape sigmoid sign sin softmax softplus softsign
        sparse_categorical_crossentropy spatial_2d_padding spatial_3d_padding sqrt square squeeze
        stack std stop_gradient sum tanh temporal_padding tile transpose var zeros_like""",
    "keras.losses": """binary_crossentropy categorical_crossentropy cosine_similarity hinge huber
        kl_divergence log_cosh mean_absolute_error mean_absolute_percentage_error
        mean_squared_error mean_squared_logarithmic_error poisson sparse_categorical_crossentropy
        squared_hinge categorical_hinge""",
}


def _names() -> Iterator[str]:
    for group, names in _GROUPS.items():
        for name in names.split():
            yield f"{group}.{name}" if group else name


PURE_OPERATIONS: FrozenSet[str] = frozenset(_names())
"""Names as TensorFlow exports them, without `tf.` and without `compat.v1.`."""


def is_pure(name: object) -> bool:
    """Whether a function of TensorFlow, by its exported name, only computes."""
    text = name if isinstance(name, str) else ""
    prefix = "compat.v1."
    return (text[len(prefix) :] if text.startswith(prefix) else text) in PURE_OPERATIONS
