//! The bytes by which formats are known, each with where they are written down.

/// A format that has fixed bytes at a fixed place.
struct Signature {
    /// Where the bytes stand.
    at: usize,
    /// The bytes.
    magic: &'static [u8],
    /// The media type, registered or usual.
    kind: &'static str,
}

const fn from_start(magic: &'static [u8], kind: &'static str) -> Signature {
    Signature { at: 0, magic, kind }
}

const fn at(at: usize, magic: &'static [u8], kind: &'static str) -> Signature {
    Signature { at, magic, kind }
}

/// Formats with a byte in their signature that text does not begin with.
#[rustfmt::skip]
static OF_BYTES: [Signature; 50] = [
    // Pictures
    from_start(b"\x89PNG\r\n\x1A\n", "image/png"),              // PNG, 5.2
    from_start(b"\xFF\xD8\xFF", "image/jpeg"),                  // ITU-T T.81, B.1.1.3: SOI and a marker
    from_start(b"\0\0\x01\0", "image/vnd.microsoft.icon"),      // Microsoft, "Icons in Win32"
    from_start(b"\0\0\0\x0CjP  \r\n\x87\n", "image/jp2"),       // ISO/IEC 15444-1, I.5.1
    from_start(b"\xFF\x4F\xFF\x51", "image/j2c"),               // ISO/IEC 15444-1, A.4: SOC and SIZ
    from_start(b"\0\0\0\x0CJXL \r\n\x87\n", "image/jxl"),       // ISO/IEC 18181-2, 5.1
    from_start(b"II*\0", "image/tiff"),                         // TIFF 6.0, section 2
    from_start(b"MM\0*", "image/tiff"),
    from_start(b"II+\0", "image/tiff"),                         // BigTIFF (libtiff)
    from_start(b"MM\0+", "image/tiff"),
    from_start(b"IIRO\x08\0", "image/tiff"),                    // Olympus ORF (ExifTool, "ORF")
    from_start(b"IIU\0", "image/tiff"),                         // Panasonic RW2 (ExifTool, "RW2")
    from_start(b"8BPS\0", "image/vnd.adobe.photoshop"),         // Adobe, "Photoshop File Formats"
    from_start(b"\xD7\xCD\xC6\x9A", "image/wmf"),               // [MS-WMF] 2.3.2.3
    from_start(b"gimp xcf ", "image/x-xcf"),                    // GIMP, devel-docs/xcf.txt
    // Documents
    from_start(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "application/x-ole-storage"), // [MS-CFB] 2.2
    from_start(b"\xC5\xD0\xD3\xC6", "application/postscript"),  // Adobe 5002, 5.2: EPS with a preview
    from_start(b"\x78\x9F\x3E\x22", "application/vnd.ms-tnef"), // [MS-OXTNEF] 2.1.3.1
    from_start(b"AT&TFORM", "image/vnd.djvu"),                  // DjVu v3, 6.2
    // Sound and film
    from_start(b"\x1A\x45\xDF\xA3", "video/x-matroska"),        // RFC 8794, 11.2.1; see `ebml`
    from_start(b"\x30\x26\xB2\x75\x8E\x66\xCF\x11", "video/x-ms-asf"), // ASF 1.2, 3.1
    from_start(b"FLV\x01", "video/x-flv"),                      // Adobe FLV 10.1, E.2
    from_start(b"\0\0\x01\xBA", "video/mpeg"),                  // ISO/IEC 13818-1, 2.5.3.4: pack header
    from_start(b"\0\0\x01\xB3", "video/mpeg"),                  // ISO/IEC 13818-2, 6.2.2.1: sequence header
    from_start(b".snd\0", "audio/basic"),                       // NeXT/Sun audio
    // Archives
    from_start(b"PK\x03\x04", "application/zip"),               // APPNOTE.TXT 4.3.7
    from_start(b"PK\x05\x06", "application/zip"),               // 4.3.16: an empty one
    from_start(b"PK\x07\x08PK", "application/zip"),             // 8.5.3: one that was split
    from_start(b"7z\xBC\xAF\x27\x1C", "application/x-7z-compressed"), // 7-Zip, 7zFormat.txt
    from_start(b"Rar!\x1A\x07", "application/vnd.rar"),         // RAR 5.0 archive format
    from_start(b"\x1F\x8B", "application/gzip"),                // RFC 1952, 2.3.1
    from_start(b"\xFD7zXZ\0", "application/x-xz"),              // The .xz File Format, 2.1.1.1
    from_start(b"\x28\xB5\x2F\xFD", "application/zstd"),        // RFC 8878, 3.1.1
    from_start(b"\x1F\x9D", "application/x-compress"),          // compress(1)
    from_start(b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"), // [MS-CAB] 2.1
    at(257, b"ustar", "application/x-tar"),                     // POSIX.1, pax: ustar interchange format
    // Programs
    from_start(b"\x7FELF", "application/x-executable"),         // System V ABI, 4
    from_start(b"\xFE\xED\xFA\xCE", "application/x-mach-binary"), // Apple, <mach-o/loader.h>
    from_start(b"\xFE\xED\xFA\xCF", "application/x-mach-binary"),
    from_start(b"\xCE\xFA\xED\xFE", "application/x-mach-binary"),
    from_start(b"\xCF\xFA\xED\xFE", "application/x-mach-binary"),
    from_start(b"\xCA\xFE\xBA\xBE", "application/java-vm"),     // JVM specification, 4.1; also a fat Mach-O
    from_start(b"\0asm", "application/wasm"),                   // WebAssembly 2.0, 5.5.16
    from_start(b"dex\n0", "application/vnd.android.dex"),       // Android, "Dalvik executable format"
    from_start(b"L\0\0\0\x01\x14\x02\0", "application/x-ms-shortcut"), // [MS-SHLLINK] 2.1
    // Others
    from_start(b"SQLite format 3\0", "application/vnd.sqlite3"), // SQLite, "Database File Format", 1.3.1
    from_start(b"\0\x01\0\0\0", "font/ttf"),                    // OpenType 1.9.1, table directory
    from_start(b"ttcf\0", "font/collection"),
    from_start(b"\0\x01\0\0Standard ", "application/vnd.ms-access"), // Jet and ACE
    from_start(b"bplist00", "application/x-bplist"),            // Apple, CFBinaryPList.c
];

/// Formats whose signature is made of letters, with which a text may begin as well. They also hold
/// bytes that text does not.
#[rustfmt::skip]
static OF_LETTERS: [Signature; 19] = [
    from_start(b"GIF87a", "image/gif"),                         // GIF89a, 17
    from_start(b"GIF89a", "image/gif"),
    from_start(b"BM", "image/bmp"),                             // Microsoft, BITMAPFILEHEADER
    from_start(b"OggS", "audio/ogg"),                           // RFC 3533, 6; see `ogg`
    from_start(b"fLaC", "audio/flac"),                          // RFC 9639, 6
    from_start(b"#!AMR", "audio/amr"),                          // RFC 4867, 5.1
    from_start(b"ADIF", "audio/aac"),                           // ISO/IEC 14496-3, 1.A.2
    from_start(b"MThd", "audio/midi"),                          // Standard MIDI Files 1.0
    from_start(b"caff", "audio/x-caf"),                         // Apple, Core Audio Format
    from_start(b"AC10", "image/vnd.dwg"),                       // Open Design Specification for .dwg, 2
    from_start(b"BZh", "application/x-bzip2"),                  // bzip2
    from_start(b"MZ", "application/vnd.microsoft.portable-executable"), // Microsoft, "PE Format"
    from_start(b"OTTO", "font/otf"),                            // OpenType 1.9.1
    from_start(b"wOFF", "font/woff"),                           // WOFF 1.0, 3
    from_start(b"wOF2", "font/woff2"),                          // WOFF 2.0, 4.1
    from_start(b"FWS", "application/vnd.adobe.flash.movie"),    // SWF 19
    from_start(b"CWS", "application/vnd.adobe.flash.movie"),
    from_start(b"ITSF", "application/vnd.ms-htmlhelp"),         // CHM
    at(128, b"DICM", "application/dicom"),                      // DICOM PS3.10, 7.1
];

pub(super) fn of_bytes(sample: &[u8]) -> Option<&'static str> {
    find(&OF_BYTES, sample)
}

pub(super) fn of_letters(sample: &[u8]) -> Option<&'static str> {
    find(&OF_LETTERS, sample)
}

fn find(table: &'static [Signature], sample: &[u8]) -> Option<&'static str> {
    table
        .iter()
        .find(|signature| {
            sample
                .get(signature.at..)
                .is_some_and(|rest| rest.starts_with(signature.magic))
        })
        .map(|signature| signature.kind)
}
