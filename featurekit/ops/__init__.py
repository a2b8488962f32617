"""The operators of the language, a module per family; importing the package fills the table."""

from featurekit.ops import binary as binary
from featurekit.ops import comparison as comparison
from featurekit.ops import convert as convert
from featurekit.ops import instant as instant
from featurekit.ops import listing as listing
from featurekit.ops import mapping as mapping
from featurekit.ops import mathematics as mathematics
from featurekit.ops import number as number
from featurekit.ops import pattern as pattern
from featurekit.ops import span as span
from featurekit.ops import text as text
from featurekit.ops import zone as zone
from featurekit.ops.table import BY_NAME as BY_NAME
from featurekit.ops.table import ERRORS as ERRORS
from featurekit.ops.table import NAMESPACE as NAMESPACE
from featurekit.ops.table import TABLE as TABLE
from featurekit.ops.table import Op as Op
from featurekit.ops.table import Own as Own
from featurekit.ops.table import find as find
