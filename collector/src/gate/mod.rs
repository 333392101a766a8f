//! (stage follows)
