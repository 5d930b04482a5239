"""Static files with content hashes in their names, also inside JavaScript module imports."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class ModuleManifestStorage(CompressedManifestStaticFilesStorage):
    """Rewrites `import … from "./dom.js"` to the hashed names, so that every asset may be cached for ever."""

    support_js_module_import_aggregation = True
