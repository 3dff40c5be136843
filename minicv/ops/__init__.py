"""t"""
from .conv import *
