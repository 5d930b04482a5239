"""Install an InstanSeg model for INSTANSEG_WSI: FILE is a TorchScript .pt or a .zip as InstanSeg releases them, NAME a released model to download."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from scheduling.instanseg.downloading import INDEX, NotDownloaded
from scheduling.instanseg.facts import ModelUnusable
from scheduling.instanseg.installing import Wanted, install

OFFLINE = "Fetch {url} on a machine with network, and install the file: manage.py install_model FILE --sha256 HEX --name {name}"


class Command(BaseCommand):
    """Probe the model and keep it under DATA_DIR/models; nothing is kept of one that cannot be used."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """FILE or NAME, --sha256, --name."""
        names = ", ".join(INDEX)
        parser.add_argument("source", metavar="FILE|NAME", help=f"a file, or one of {names} (only the first has the three channels of H&E)")
        parser.add_argument(
            "--sha256", metavar="HEX", help="SHA-256 of the file that is given or downloaded (of the .zip, for a bundle); needed for a NAME"
        )
        parser.add_argument("--name", help="what jobs call it; the name of the file if left out")

    def handle(self, *_: Any, source: str, sha256: str | None, name: str | None, **__: Any) -> None:
        """Raises CommandError (exit 1) with the reason when it was not installed."""
        try:
            facts = install(Wanted(source=source, sha256=sha256, name=name), settings.DATA_DIR, self._say)
        except ModelUnusable as error:
            raise CommandError(str(error)) from error
        except NotDownloaded as error:
            raise CommandError(f"It could not be downloaded ({error}). {OFFLINE.format(url=INDEX[source], name=source)}") from error
        except OSError as error:
            raise CommandError(f"{error.filename or source}: {error.strerror or error}") from error
        outputs = " and ".join(facts.outputs)
        self.stdout.write(f"installed: {facts.name} ({outputs}, {facts.pixel_size_um:g} µm per pixel), model {facts.sha256}")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
