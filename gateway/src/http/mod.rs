//! Health, metrics, the page and the JSON API behind it.
