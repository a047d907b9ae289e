"""Reading measured scans: from files of any known format to one ``RawScan``. No torch."""

from ptychofno.data.readers.files import existing_file, open_source
from ptychofno.data.readers.reading import open_scan
from ptychofno.data.readers.scan import RawScan
from ptychofno.data.readers.source import Lazy, Source

__all__ = ["Lazy", "RawScan", "Source", "existing_file", "open_scan", "open_source"]
