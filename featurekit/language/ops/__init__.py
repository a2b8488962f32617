"""The operators of the language, a module for each family; importing the package fills the
table."""

from featurekit.language.ops import binary as binary
from featurekit.language.ops import collecting as collecting
from featurekit.language.ops import comparison as comparison
from featurekit.language.ops import convert as convert
from featurekit.language.ops import instant as instant
from featurekit.language.ops import library as library
from featurekit.language.ops import listing as listing
from featurekit.language.ops import mapping as mapping
from featurekit.language.ops import mathematics as mathematics
from featurekit.language.ops import nested as nested
from featurekit.language.ops import number as number
from featurekit.language.ops import pattern as pattern
from featurekit.language.ops import span as span
from featurekit.language.ops import text as text
from featurekit.language.ops import zone as zone
from featurekit.language.ops.table import BY_NAME as BY_NAME
from featurekit.language.ops.table import ERRORS as ERRORS
from featurekit.language.ops.table import NAMESPACE as NAMESPACE
from featurekit.language.ops.table import TABLE as TABLE
from featurekit.language.ops.table import Op as Op
from featurekit.language.ops.table import Own as Own
from featurekit.language.ops.table import find as find
