//! `/`: one embedded page without anything from elsewhere; it feeds itself from `/api/v1/status`.

/// The page.
pub(super) const HTML: &str = include_str!("page.html");

/// What the page may do: its own inline style and script, and requests to this gateway. Nothing
/// else is loaded, and no other site can frame it.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::HTML;
    use crate::{device::DeviceStatus, http::status::DeviceDto};

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for word in
            ["http://", "https://", "//cdn", "@import", "<link rel=\"stylesheet\"", "src=\""]
        {
            let found = HTML.matches(word).count();
            // The namespace of inline SVG is a name, not an address that is loaded.
            let namespaces = if word == "http://" {
                HTML.matches("http://www.w3.org/2000/svg").count()
            } else {
                0
            };
            assert_eq!(found, namespaces, "{word}");
        }
    }

    #[test]
    fn what_comes_from_outside_is_only_ever_text() {
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
        {
            assert!(!HTML.contains(sink), "{sink} would let a name become markup");
        }
        assert!(HTML.contains("textContent"));
    }

    #[test]
    fn nothing_that_is_known_of_a_device_is_left_out() {
        let status = DeviceStatus::default();
        let device = json!(DeviceDto::from(&status));
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        for name in device.as_object().expect("an object").keys() {
            let is_read = HTML.split("d.").any(|text| {
                text.strip_prefix(&name[..]).is_some_and(|rest| !rest.starts_with(is_word))
            });
            assert!(is_read, "{name} is not shown");
        }
    }
}
