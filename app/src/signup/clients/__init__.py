"""The AWS services this service talks to: the only modules that use boto3."""
