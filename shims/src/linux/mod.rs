//! The real backend.
