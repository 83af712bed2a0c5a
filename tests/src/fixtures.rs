//! Small real files (see `tests/fixtures/README.md`).

/// A file as a user would upload it.
#[derive(Clone, Copy, Debug)]
pub struct Fixture {
    /// Its name on the user's machine.
    pub name: &'static str,
    /// The media type that its extension stands for.
    pub media_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

macro_rules! fixture {
    ($constant:ident, $name:literal, $media_type:literal) => {
        #[doc = concat!("`", $name, "`")]
        pub const $constant: Fixture = Fixture {
            name: $name,
            media_type: $media_type,
            bytes: include_bytes!(concat!("../fixtures/", $name)),
        };
    };
}

fixture!(PNG, "locket.png", "image/png");
fixture!(JPEG, "locket.jpg", "image/jpeg");
fixture!(PDF, "letter.pdf", "application/pdf");
fixture!(TEXT, "notes.txt", "text/plain");
fixture!(CSV, "inventory.csv", "text/csv");
fixture!(
    DOCX,
    "minutes.docx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
);
