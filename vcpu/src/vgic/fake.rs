//! A model of the GICv3 hardware for host tests.
