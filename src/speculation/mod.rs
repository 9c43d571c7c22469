//! speculation
