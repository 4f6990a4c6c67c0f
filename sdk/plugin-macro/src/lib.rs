//! millstream-plugin-macro.
