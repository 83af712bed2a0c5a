"""Settings for Django's own tests: a database of ours, and a runner that writes down what passes."""

import os


def database(name):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["KEEPSAKE_ORM_PORT"],
        "USER": os.environ["KEEPSAKE_ORM_DATABASE"],
        "PASSWORD": os.environ["KEEPSAKE_ORM_PASSWORD"],
        "NAME": f"{name}_{os.environ['KEEPSAKE_ORM_DATABASE']}",
        "TEST": {"TEMPLATE": os.environ["KEEPSAKE_ORM_DATABASE"]},
    }


DATABASES = {"default": database("one"), "other": database("other")}
SECRET_KEY = "keepsake"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "keepsake_runner.Runner"
