"""Makes the corpus: files as people's programs write them, each by a real producer.

    make.py FOLDER

writes FOLDER/KIND/NAME for every file that its own producer, or the library for its format, opens again.
`tests/tests/corpus.rs` then asks the rules about each. What a producer writes differs with its version, so
scripts/corpus.txt pins them by hash. Besides what is made here, the folder gets the files that two of the
packages ship to test themselves.
"""

import email.message
import io
import json
import pathlib
import random
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

FOLDER = pathlib.Path(sys.argv[1])
SDISTS = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None


def put(producer, name, content):
    """Keeps one file: content is bytes, or a function that writes to the file object it is given."""
    path = FOLDER / producer / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        buffer = io.BytesIO()
        content(buffer)
        content = buffer.getvalue()
    path.write_bytes(content)
    return content


def pictures():
    from PIL import Image, ImageCms

    noise = random.Random(1)
    photo = Image.frombytes("RGB", (160, 120), noise.randbytes(160 * 120 * 3))
    producer = "Pillow"

    def save(name, image=photo, **options):
        def write(file):
            image.save(file, format=options.pop("format", None) or FORMATS[name.rsplit(".", 1)[1]], **options)

        content = put(producer, name, write)
        if not name.endswith(".pdf"):
            Image.open(io.BytesIO(content)).verify()

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = Image.new("I;16", (9, 9), 7) if mode == "I;16" else photo.convert(mode)
        save(f"mode-{mode.replace(';', '')}.png", image)
    save("animated.png", save_all=True, append_images=[photo.rotate(90)])
    save("animated.apng", save_all=True, append_images=[photo.rotate(90)], format="PNG")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    for quality in (1, 50, 95):
        save(f"quality-{quality}.jpg", quality=quality)
    save("progressive.jpeg", progressive=True)
    save("cmyk.jpg", photo.convert("CMYK"))
    save("grey.jpe", photo.convert("L"))
    save("icc-exif.jfif", icc_profile=profile, exif=exif)
    for size in (200_000, 700_000, 3_000_000):
        save(f"press-profile-{size}.jpg", photo.convert("CMYK"), icc_profile=profile + noise.randbytes(size))
    for colours in (2, 16, 256):
        save(f"colours-{colours}.gif", photo.quantize(colours))
    save("animated.gif", photo.quantize(16), save_all=True, append_images=[photo.quantize(8)], loop=0)
    for options in ({}, {"lossless": True}, {"exif": exif, "icc_profile": profile}):
        save(f"{'-'.join(options) or 'lossy'}.webp", **options)
    save("alpha.webp", photo.convert("RGBA"))
    save("animated.webp", save_all=True, append_images=[photo.rotate(90)])
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        save(f"mode-{mode}.bmp", photo.convert(mode))
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        save(f"{compression}.tif", compression=compression)
    save("fax.tif", photo.convert("1"), compression="group4")
    save("pages.tiff", save_all=True, append_images=[photo.rotate(90)])
    save("big.tif", big_tiff=True)
    # The first pixel stands where some detectors look for another format.
    for first in (b"CR", b"\x00\x2a", b"HE", b"II", b"PK", b"\xff\xd8"):
        pixel = Image.frombytes("RGB", (2, 1), (first + b"\0\0\0\0")[:6])
        save(f"first-pixel-{first.hex()}.tif", pixel)
    save("sizes.ico", photo.resize((64, 64)), sizes=[(16, 16), (48, 48)])
    save("wavelets.jp2")
    save("codestream.j2k")
    save("picture.pdf")
    save("print.eps")
    if "AVIF" in Image.SAVE:
        save("still.avif")
        save("alpha.avif", photo.convert("RGBA"), quality=90)
        save("animated.avif", save_all=True, append_images=[photo.rotate(90)])
    return photo


FORMATS = {
    "png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "gif": "GIF", "webp": "WEBP",
    "bmp": "BMP", "tif": "TIFF", "tiff": "TIFF", "ico": "ICO", "jp2": "JPEG2000", "j2k": "JPEG2000",
    "pdf": "PDF", "eps": "EPS", "avif": "AVIF",
}


def boxes(content):
    """The boxes of an ISO base media file."""
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big") or len(content) - at
        yield content[at + 4 : at + 8], content[at : at + size]
        at += size


def heif(photo):
    import pillow_heif

    producer = "pillow-heif"
    for name, images in (("still.heic", [photo]), ("still.heif", [photo]), ("still.hif", [photo]),
                         ("burst.heic", [photo, photo.rotate(90)]), ("alpha.heic", [photo.convert("RGBA")])):
        made = pillow_heif.from_pillow(images[0])
        for more in images[1:]:
            made.add_from_pillow(more)
        content = put(producer, name, lambda file: made.save(file, quality=50))
        pillow_heif.open_heif(io.BytesIO(content))
    # As some telephones write it: the properties behind the coded picture, whose place is counted from the start of the file.
    parts = dict(boxes(content))
    free = (300_000).to_bytes(4, "big") + b"free" + bytes(299_992)
    moved = parts[b"ftyp"] + (16 + 300_000 - 16).to_bytes(4, "big") + b"free" + bytes(300_000 - 8) + parts[b"meta"]
    put("as telephones write it", "properties-last.heic", moved + parts[b"mdat"])
    put("as telephones write it", "free-space.heic", parts[b"ftyp"] + free + parts[b"meta"] + parts[b"mdat"])


def documents(photo):
    import docx
    import fpdf
    import openpyxl
    import pptx
    import xlsxwriter
    import xlwt
    from ebooklib import epub
    from odf import draw, opendocument, table, text
    from reportlab.pdfgen import canvas

    picture = io.BytesIO()
    photo.save(picture, "PNG")
    made = {}

    def word(file):
        document = docx.Document()
        document.add_heading("Minutes")
        document.add_picture(io.BytesIO(picture.getvalue()))
        document.save(file)

    made["minutes.docx"] = put("python-docx", "minutes.docx", word)

    def sheet(file):
        book = openpyxl.Workbook()
        for row in range(500):
            book.active.append([row, f"row {row}", row / 7])
        book.create_sheet("Übersicht")
        book.save(file)

    made["table.xlsx"] = put("openpyxl", "table.xlsx", sheet)
    for constant in (False, True):
        def sheet(file):
            book = xlsxwriter.Workbook(file, {"constant_memory": constant, "in_memory": not constant})
            book.add_worksheet().write(0, 0, "a")
            book.close()

        put("xlsxwriter", f"memory-{constant}.xlsx", sheet)

    def slides(file):
        deck = pptx.Presentation()
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.add_picture(io.BytesIO(picture.getvalue()), 0, 0)
        deck.save(file)

    made["deck.pptx"] = put("python-pptx", "deck.pptx", slides)

    def old_sheet(file):
        book = xlwt.Workbook()
        book.add_sheet("a").write(0, 0, "a")
        book.save(file)

    put("xlwt", "old.xls", old_sheet)
    for kind, extension in (("Text", "odt"), ("Spreadsheet", "ods"), ("Presentation", "odp"), ("Drawing", "odg")):
        document = getattr(opendocument, f"OpenDocument{kind}")()
        if kind == "Text":
            document.text.addElement(text.P(text="Hello"))
        if kind == "Spreadsheet":
            document.spreadsheet.addElement(table.Table(name="a"))
        if kind in ("Presentation", "Drawing"):
            from odf.style import MasterPage, PageLayout
            layout = PageLayout(name="l")
            document.automaticstyles.addElement(layout)
            master = MasterPage(name="m", pagelayoutname=layout)
            document.masterstyles.addElement(master)
            getattr(document, kind.lower()).addElement(draw.Page(masterpagename=master))
        made[f"plain.{extension}"] = put("odfpy", f"plain.{extension}", document.write)

    def drawn(file, **options):
        page = canvas.Canvas(file, **options)
        page.drawString(100, 700, "Hello")
        page.showPage()
        page.save()

    for version in ((1, 3), (1, 4), (1, 5)):
        put("ReportLab", f"version-{version[1]}.pdf", lambda file: drawn(file, pdfVersion=version))
    put("ReportLab", "all-ascii.pdf", lambda file: drawn(file, pageCompression=0))
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.cell(text="Hello")
    plain = put("fpdf2", "plain.pdf", bytes(pdf.output()))
    import pypdf
    for encrypt in (False, True):
        def rewritten(file):
            writer = pypdf.PdfWriter(clone_from=io.BytesIO(plain))
            if encrypt:
                writer.encrypt("secret", algorithm="RC4-128")
            writer.write(file)

        put("pypdf", f"encrypted-{encrypt}.pdf", rewritten)
    for what, start in (("bom", b"\xef\xbb\xbf"), ("newline", b"\r\n"), ("mail", b"Content-Type: application/pdf\r\n\r\n")):
        content = put("pypdf reads past what stands before", f"behind-{what}.pdf", start + plain)
        assert len(pypdf.PdfReader(io.BytesIO(content)).pages) == 1

    book = epub.EpubBook()
    book.set_title("A book")
    chapter = epub.EpubHtml(title="One", file_name="one.xhtml", content="<p>Hello</p>")
    book.add_item(chapter)
    book.toc = [chapter]
    book.spine = ["nav", chapter]
    book.add_item(epub.EpubNcx())
    book.add_item(epub.EpubNav())
    put("ebooklib", "book.epub", lambda file: epub.write_epub(file, book))
    return made


def with_a_password(made):
    from msoffcrypto.format.ooxml import OOXMLFile

    for name in ("minutes.docx", "table.xlsx", "deck.pptx"):
        put("msoffcrypto-tool", name, lambda file: OOXMLFile(io.BytesIO(made[name])).encrypt("secret", file))


class Unseekable(io.RawIOBase):
    """A pipe: a ZIP writer cannot go back to fill in sizes, and puts them behind each entry."""

    def __init__(self, file):
        self.file = file

    def writable(self):
        return True

    def write(self, content):
        return self.file.write(bytes(content))


def packed_again(made):
    """The same documents as other ZIP writers pack them."""

    def pack(content, order=lambda names: names, rename=lambda name: name, method=zipfile.ZIP_DEFLATED, extra=b"", pipe=False):
        def write(file):
            with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(Unseekable(file) if pipe else file, "w") as target:
                for name in order(source.namelist()):
                    entry = zipfile.ZipInfo(rename(name), (2026, 1, 2, 3, 4, 6))
                    entry.compress_type = method
                    entry.extra = extra
                    target.writestr(entry, source.read(name))

        return write

    stamp = b"UT\x05\x00\x01\x00\x00\x00\x00"
    ways = {
        "reversed": {"order": lambda names: names[::-1]},
        "sorted": {"order": sorted},
        "stored": {"method": zipfile.ZIP_STORED},
        "stamped": {"extra": stamp, "method": zipfile.ZIP_STORED},
        "piped": {"pipe": True},
        "deflated": {},
    }
    for name, content in made.items():
        stem, extension = name.split(".")
        for way, options in ways.items():
            put("zipfile", f"{stem}-{way}.{extension}", pack(content, **options))
        if extension in ("docx", "xlsx", "pptx"):
            put("zipfile", f"{stem}-backslash.{extension}", pack(content, rename=lambda name: name.replace("/", "\\")))
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("a.txt", "hello")
    put("zipfile", "plain.zip", plain.getvalue())


def recordings():
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1"]
    film = ["-f", "lavfi", "-i", "testsrc=duration=1:size=64x48:rate=10"]
    both = sound + film
    aac, h264 = ["-c:a", "aac"], ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
    jobs = {
        "tagged.mp3": sound + ["-metadata", "title=Song"],
        "flac-tagged.flac": sound,
        "surround.wav": sound + ["-ac", "6"],
        "float.wav": sound + ["-c:a", "pcm_f32le"],
        "rf64.wav": sound + ["-rf64", "always"],
        "mp3-in-riff.wav": sound + ["-c:a", "libmp3lame"],
        "adpcm.wav": sound + ["-c:a", "adpcm_ms"],
        "adts.aac": sound + aac,
        "sound.m4a": sound + aac,
        "alac.m4a": sound + ["-c:a", "alac"],
        "vorbis.ogg": sound + ["-c:a", "libvorbis"],
        "opus.opus": sound + ["-c:a", "libopus"],
        "flac.oga": sound + ["-c:a", "flac"],
        "sound.aiff": sound,
        "sound.aif": sound + ["-write_id3v2", "1"],
        "sound.caf": sound,
        "sound.wma": sound,
        "layer-2.mp2": sound,
        "film.mp4": both + h264 + aac,
        "fast-start.mp4": both + h264 + aac + ["-movflags", "+faststart"],
        "fragments.mp4": both + h264 + aac + ["-movflags", "frag_keyframe+empty_moov"],
        "mpeg4.mp4": film + ["-c:v", "mpeg4"],
        "hevc.mp4": film + ["-c:v", "libx265", "-tag:v", "hvc1"],
        "film.mov": both + h264 + aac,
        "prores.mov": film + ["-c:v", "prores_ks"],
        "mjpeg.mov": film + ["-c:v", "mjpeg"],
        "film.m4v": both + h264 + aac,
        "film.3gp": film + ["-c:v", "h263", "-s", "176x144"],
        "film.3g2": film + h264,
        "vp8.webm": film + ["-c:v", "libvpx"],
        "vp9.webm": both + ["-c:v", "libvpx-vp9", "-c:a", "libopus"],
        "sound.weba": sound + ["-c:a", "libopus", "-f", "webm"],
        "film.mkv": both + h264 + aac,
        "sound.mka": sound + ["-c:a", "flac"],
        "film.avi": both + ["-c:v", "mpeg4"],
        "film.mpg": film,
        "film.vob": film,
        "film.mts": both + h264 + aac + ["-f", "mpegts"],
        "blu-ray.m2ts": both + h264 + aac + ["-mpegts_m2ts_mode", "1", "-f", "mpegts"],
        "film.flv": both + h264 + aac,
        "film.wmv": both,
        "theora.ogv": film + ["-c:v", "libtheora"],
        "film.gif": film,
        "film.apng": film,
    }
    for rate in (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000):
        jobs[f"plain-{rate}.mp3"] = sound + ["-ar", str(rate), "-id3v2_version", "0", "-write_xing", "0"]
    place = FOLDER / "FFmpeg"
    place.mkdir(parents=True, exist_ok=True)
    for name, arguments in jobs.items():
        done = subprocess.run([program, "-v", "error", "-y", *arguments, place / name], capture_output=True, text=True)
        if done.returncode != 0:
            # A build without this encoder.
            print(f"{name}: {done.stderr.strip()[:150]}", file=sys.stderr)
            (place / name).unlink(missing_ok=True)
    for name in ("flac-tagged.flac", "adts.aac"):
        tag = b"ID3\x04\0\0\0\0\x02\x01" + bytes(257)
        content = put("ID3 before", name, tag + (place / name).read_bytes())
        path = FOLDER / "ID3 before" / name
        subprocess.run([program, "-v", "error", "-i", path, "-f", "null", "-"], check=True)
    # QuickTime before it had `ftyp`: the first box is another.
    parts = list(boxes((place / "film.mov").read_bytes()))
    ftyp = next(box for kind, box in parts if kind == b"ftyp")
    rest = b"".join(box for kind, box in parts if kind != b"ftyp")
    for kind in (b"wide", b"free", b"skip"):
        filler = len(ftyp).to_bytes(4, "big") + kind + bytes(len(ftyp) - 8)
        name = f"begins-with-{kind.decode()}.mov"
        put("QuickTime without ftyp", name, filler + rest)
        subprocess.run([program, "-v", "error", "-i", FOLDER / "QuickTime without ftyp" / name, "-f", "null", "-"], check=True)


def texts():
    languages = {
        "cp1252": "Stück;Größe\r\nÄpfel;1\r\n", "shift_jis": "日本語,値段\r\n", "euc_jp": "日本語,値段\n", "iso2022_jp": "日本語\n",
        "gbk": "中文,价格\r\n", "big5": "中文,價格\r\n", "euc_kr": "한국어,가격\r\n", "koi8_r": "Русский;Цена\r\n",
        "cp1251": "Русский;Цена\r\n", "iso8859_7": "Ελληνικά;Τιμή\n", "cp1256": "العربية;سعر\r\n", "utf_8": "Größe,日本語\n",
        "utf_8_sig": "Größe,1\r\n", "utf_16": "Größe\t1\r\n", "utf_16_le": "Größe\t1\r\n", "utf_32": "Größe\n", "mac_roman": "Größe,1\r",
        "cp437": "Größe ─┼─\r\n\x1a", "utf_7": "Größe\n",
    }
    for encoding, sample in languages.items():
        for extension in ("txt", "csv", "md", "log", "tsv"):
            put("Python's codecs", f"{encoding}.{extension}", (sample * 20).encode(encoding))
    put("a terminal", "colours.log", b"\x1b[31merror\x1b[0m\x07 \x08\r\n\x0c")
    samples = {
        "readme.md": '<h1 align="center">Keepsake</h1>\n', "comment.md": "<!-- badges -->\n# Title\n", "script.md": "#!/bin/sh\necho\n",
        "magic.json": '{"magic":"%PDF-"}', "scalar.json": '"text"', "lines.jsonl": "{}\n{}\n", "map.geojson": '{"type":"FeatureCollection","features":[]}',
        "track.gpx": '<?xml version="1.0"?><gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"/>', "film.srt": "1\n00:00:01,000 --> 00:00:02,000\n<i>Hi</i>\n",
        "film.vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\nHi\n", "settings.yaml": "---\na: 1\n", "settings.toml": "[a]\nb = 1\n", "table.sql": "SELECT 1;\n",
        "paper.tex": "\\documentclass{article}", "page.doc": "<html xmlns:o='urn:schemas-microsoft-com:office:office'><body>Hi</body></html>",
        "export.xls": "<table><tr><td>1</td></tr></table>", "tabs.xls": "a\tb\r\n1\t2\r\n", "rich.doc": "{\\rtf1\\ansi Hello}", "rich.rtf": "{\\rtf1\\ansi Hello}",
        "archive.doc": "MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n\r\n--x--\r\n", "BMW.txt": "BMW and others", "gif.txt": "GIF89a is a format",
    }
    for name, sample in samples.items():
        put("written by hand", name, sample.encode())
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = "ada@example.com", "bob@example.com", "Größe"
    message.set_content("Hello")
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="a.png")
    put("Python's email", "message.eml", message.as_bytes())
    import icalendar
    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//corpus//")
    calendar.add("version", "2.0")
    put("icalendar", "day.ics", calendar.to_ical())
    import vobject
    card = vobject.vCard()
    card.add("n")
    card.add("fn").value = "Ada Lovelace"
    put("vobject", "ada.vcf", card.serialize().encode())


def installed():
    """The text files that these packages bring: read-mes, licences, tables, settings."""
    place = pathlib.Path(sysconfig.get_paths()["purelib"])
    for number, path in enumerate(sorted(place.rglob("*"))):
        # What a Python brings itself is not pinned.
        is_pinned = not path.relative_to(place).parts[0].startswith(("pip", "setuptools", "pkg_resources", "_distutils", "wheel"))
        if not is_pinned or not path.is_file() or path.stat().st_size == 0:
            continue
        if path.name == "METADATA":
            description = path.read_bytes().split(b"\n\n", 1)[-1]
            if description.strip():
                put("descriptions on PyPI", f"{path.parent.name}.md", description)
        elif path.suffix in (".txt", ".md", ".rst", ".json", ".csv", ".toml", ".docx", ".xlsx", ".pptx", ".pdf", ".png", ".jpg", ".gif", ".odt"):
            put("files of Python packages", f"{number}-{path.name.lstrip('.')}", path.read_bytes())


def shipped():
    """What packages ship to test themselves, of what their own library opens."""
    import docx
    import mutagen
    import pptx

    def opens(path, content):
        file = io.BytesIO(content)
        if path.suffix in (".docx",):
            return docx.Document(file)
        if path.suffix in (".pptx",):
            return pptx.Presentation(file)
        return mutagen.File(file, filename=path.name)

    for archive in sorted(SDISTS.glob("*.tar.gz")):
        with tarfile.open(archive) as files:
            for member in files:
                path = pathlib.PurePosixPath(member.name)
                kinds = (".docx", ".pptx", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wav", ".aif", ".aiff", ".wma", ".spx", ".mid", ".mp4")
                if not member.isfile() or path.suffix not in kinds or not member.size:
                    continue
                content = files.extractfile(member).read()
                try:
                    is_open = opens(path, content) is not None
                except Exception:
                    is_open = False
                if is_open:
                    put(f"tests of {archive.name.rsplit('-', 1)[0]}", path.name.lstrip("."), content)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    photo = pictures()
    heif(photo)
    made = documents(photo)
    with_a_password(made)
    packed_again(made)
    recordings()
    texts()
    installed()
    if SDISTS:
        shipped()
    print(json.dumps({"files": sum(path.is_file() for path in FOLDER.rglob("*"))}))


main()
