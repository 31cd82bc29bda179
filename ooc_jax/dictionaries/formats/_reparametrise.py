"""Encoders of other architectures in the one form that is used here."""

import numpy as np


def row_norms(x: np.ndarray) -> np.ndarray:
  """Norms of the rows of [F, D], float64, without a copy in float64."""
  x = x.astype(np.float32, copy=False)
  return np.sqrt(np.einsum('FD,FD->F', x, x, dtype=np.float64))


def project(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
  """rows [F, D] · x [D], float32."""
  with np.errstate(over='ignore', invalid='ignore'):  # Refused on the device.
    return rows.astype(np.float32, copy=False) @ x


def gated_as_jump(
    weights: np.ndarray,
    gate_bias: np.ndarray,
    magnitude_bias: np.ndarray,
    log_scale: np.ndarray,
    *,
    shift: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A gated encoder as a JumpReLU, exactly.

  With r = exp(log_scale) > 0 the gate, x·W + b_gate > 0, is open where
  pre = x·(r W) + b_mag is over b_mag - r b_gate, and an open feature is
  max(pre, 0): both are pre over one threshold. Rajamanoharan et al. 2024
  (arXiv 2404.16014) show the same.

  Args:
    weights: W [F, D].
    gate_bias: b_gate [F].
    magnitude_bias: b_mag [F].
    log_scale: r_mag [F].
    shift: [F] what is to be subtracted from x·W.

  Returns:
    Encoder [F, D], its bias [F] and threshold [F], float32.
  """
  with np.errstate(over='ignore', invalid='ignore'):  # Refused on the device.
    r = np.exp(log_scale)
    # The shift moves pre and both sides of the condition alike.
    threshold = np.maximum(magnitude_bias - r * gate_bias, 0)
    encoder = weights.astype(np.float32) * r[:, None]
    return encoder, magnitude_bias - r * shift, threshold


def unit_decoder(
    encoder: np.ndarray, bias: np.ndarray, decoder: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The same SAE with decoder rows of norm 1, its norms in the encoder.

  Activations are then multiplied by the norms; a row of zeros stays one.

  Args:
    encoder: [F, D].
    bias: [F] of the encoder.
    decoder: [F, D].

  Returns:
    Encoder, bias and decoder, float32.
  """
  norms = row_norms(decoder).astype(np.float32)
  with np.errstate(over='ignore', invalid='ignore'):  # Refused on the device.
    encoder = encoder.astype(np.float32) * norms[:, None]
    decoder = decoder / np.where(norms > 0, norms, 1)[:, None]
  return encoder, bias * norms, decoder.astype(np.float32)
